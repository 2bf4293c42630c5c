"""docs/capabilities.md, against what the probe finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tandem.stores.abilities import Ability, Probed, Verdict
from tandem.stores.probe import probe
from tests.stores.capabilities import COLUMNS, table
from tests.stores.conftest import MAKERS, MOTO

PAGE = (Path(__file__).parents[2] / "docs/capabilities.md").read_text(encoding="utf-8")
# moto looks and writes in two steps, so a race on it may end either way.
CHANCE = {Ability.PUT_IF_ABSENT, Ability.COMPLETE_IF_ABSENT}


async def found_by(make_store: Callable[..., Any], name: str, *, versioned: bool) -> Probed:
    store = make_store(name, versioned=versioned)
    try:
        return await probe(store)
    finally:
        await store.close()


def rows(text: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines()]
    return {row[0]: row[1:] for row in cells if row[0] in set(Ability)}


async def test_the_table_is_what_the_probe_finds(make_store: Callable[..., Any]):
    found = {
        (name, versioned): await found_by(make_store, name, versioned=versioned)
        for _, name, versioned in COLUMNS
    }
    told, wanted = rows(PAGE), rows(table(found))
    for ability in CHANCE:
        assert told[ability].pop() == "yes"
        wanted[ability].pop()
    assert told == wanted


async def test_versioned_buckets_are_no_different_but_for_versitygws(
    make_store: Callable[..., Any],
):
    for name in set(MAKERS) - {"versitygw"}:
        plain, versioned = [
            {
                trial.ability: trial.verdict
                for trial in (await found_by(make_store, name, versioned=kept)).trials
                if trial.ability not in {Ability.VERSIONS, Ability.VERSION_ORDER}
                and not (name == MOTO and trial.ability in CHANCE)
            }
            for kept in (False, True)
        ]
        assert plain == versioned


# moto lists markers by whole seconds: in order where each comes in a second of its own.
@pytest.mark.parametrize("name", sorted(set(MAKERS) - {MOTO}))
async def test_versioned_buckets_list_versions_in_order(make_store: Callable[..., Any], name: str):
    found = await found_by(make_store, name, versioned=True)
    assert found[Ability.VERSION_ORDER].verdict is Verdict.YES
