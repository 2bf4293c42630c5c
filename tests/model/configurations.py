"""The rules and servers that the model is run with."""

from __future__ import annotations

from dataclasses import replace

from tandem.rule import Rule
from tandem.stores.base import Capabilities
from tests.model.world import Configuration

ONE_WAY = Rule("one way", "left", ("right",), prefix="in/")
BOTH_WAYS = replace(ONE_WAY, name="both ways", two_way=True)
FAN_OUT = replace(ONE_WAY, name="fan out", targets=("right", "far"))
CHAIN = (ONE_WAY, Rule("onward", "right", ("far",), prefix="in/"))

# Every operation on condition, deletes too, as on AWS.
FULL = Capabilities(conditional_delete=True, min_part_size=1)
# Copies on condition, deletes not, as on MinIO.
GUARDED = replace(FULL, conditional_delete=False)
UNGUARDED = replace(GUARDED, conditional_put=False, conditional_complete=False)


def configured(*rules: Rule, target: Capabilities, versioned: bool = False) -> Configuration:
    """Return sites for some rules; the first source has all capabilities, the others `target`'s."""
    sites = dict.fromkeys(site for rule in rules for site in (rule.source, *rule.targets))
    abilities = dict.fromkeys(sites, target) | {rules[0].source: FULL}
    return Configuration(rules, abilities, frozenset(sites if versioned else ()))


CONFIGURATIONS = {
    "full": configured(ONE_WAY, target=FULL),
    "guarded": configured(ONE_WAY, target=GUARDED),
    "guarded, in turn": replace(configured(ONE_WAY, target=GUARDED), slots=3),
    "unguarded": configured(ONE_WAY, target=UNGUARDED),
    "full, versioned": configured(ONE_WAY, target=FULL, versioned=True),
    "unguarded, versioned": configured(ONE_WAY, target=UNGUARDED, versioned=True),
    "create-only": configured(replace(ONE_WAY, deletes="keep"), target=GUARDED),
    "source's parts, no tags": configured(
        replace(ONE_WAY, parts="source", tags=False), target=GUARDED
    ),
    "fan out": configured(FAN_OUT, target=GUARDED),
    "chain": configured(*CHAIN, target=FULL),
    "both ways": configured(BOTH_WAYS, target=FULL, versioned=True),
    "both ways, guarded": configured(BOTH_WAYS, target=GUARDED, versioned=True),
}
