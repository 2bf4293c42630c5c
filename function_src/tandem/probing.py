"""What is known of targets before they are written to; those that were away are asked again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence

from tandem.errors import TandemError
from tandem.protocol import losses, protocol
from tandem.rule import Rule
from tandem.stores.abilities import Probeable, cautious
from tandem.stores.probe import probe
from tandem.versions import FIX, unversioned

logger = logging.getLogger(__name__)

# How long, in seconds, a target may take to answer before work begins without its answer; the
# pause before it is asked again; and how long it may take then, when nobody waits for it.
PATIENCE = 10.0
PAUSE = 60.0
LATER_PATIENCE = 300.0


async def ask(
    stores: Mapping[str, Probeable],
    targets: Collection[str],
    rules: Sequence[Rule],
    patience: float = PATIENCE,
) -> set[str]:
    """Probe targets, let their stores know what was found, and return those still to be asked.

    Of those, which have not answered within `patience` seconds, nothing is relied on: they are
    written to unconditionally, and looked at again.
    """
    answers = await asyncio.gather(*(_asked(stores[site], patience) for site in targets))
    unknown = {site for site, answered in zip(targets, answers, strict=True) if not answered}
    for site in targets:
        target = stores[site].capabilities
        until = " until it has been asked" if site in unknown else ""
        logger.info("%s: %s%s", site, protocol(target), until)
        for rule in (rule for rule in rules if site in rule.targets and site not in unknown):
            for loss in losses(stores[rule.source].capabilities, target, rule):
                logger.warning("%s to %s: %s", rule.name, site, loss)
    await _demand_versions(stores, set(targets) - unknown, rules)
    return unknown


async def _demand_versions(
    stores: Mapping[str, Probeable], targets: Collection[str], rules: Sequence[Rule]
) -> None:
    """Log an error for each bucket that keeps no versions though a rule is about them.

    Until that is mended, keys under a rule with `versions: all` will end in `invalid`, one by one,
    and what is deleted at one side of a two-way rule may come back.
    """
    meant = [rule for rule in rules if any(site in targets for site in rule.targets)]
    for site in dict.fromkeys([*(rule.source for rule in meant), *sorted(targets)]):
        try:
            for fault in await unversioned(stores[site], meant):
                logger.error("%s: %s", fault, FIX)
        except TandemError as error:
            logger.warning("%s does not say whether it keeps versions: %s", site, error)


async def ask_again(
    stores: Mapping[str, Probeable], unknown: Collection[str], rules: Sequence[Rule]
) -> None:
    """Ask the targets that did not answer again and again, until all have."""
    while unknown:
        await asyncio.sleep(PAUSE)
        unknown = await ask(stores, unknown, rules, LATER_PATIENCE)


async def _asked(store: Probeable, patience: float) -> bool:
    """Probe a target; return whether it answered."""
    try:
        async with asyncio.timeout(patience):
            store.capabilities = (await probe(store)).capabilities
    except (TandemError, TimeoutError) as error:
        why = str(error) or f"no answer within {patience:.0f} s"
        logger.warning("%s could not be asked what it can do: %s", store.site, why)
        store.capabilities = cautious(store.capabilities)
        return False
    return True
