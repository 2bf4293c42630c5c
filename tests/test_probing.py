"""What a worker learns of its targets at its start, and later."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tandem import probing
from tandem.errors import Denied, TandemError, Transient
from tandem.probing import ask, ask_again
from tandem.rule import Rule
from tandem.stores.base import Capabilities
from tandem.stores.memory import MemoryStore

RULES = (Rule("r", "a", ("b", "c")),)


class Away(MemoryStore):
    """A server that is away until it is back."""

    error: TandemError | None = Transient("no answer")

    async def _turn(self, operation: str, key: str) -> None:
        del operation, key
        if self.error:
            raise self.error


def stores(away: Away) -> dict[str, MemoryStore]:
    return {"a": MemoryStore("a"), "b": MemoryStore("b", versioned=True), "c": away}


async def test_targets_are_asked_and_sources_are_not(caplog: pytest.LogCaptureFixture):
    class Silent(MemoryStore):
        async def _turn(self, operation: str, key: str) -> None:
            raise AssertionError(f"{operation} of {key}")

    made = {"a": Silent("a"), "b": MemoryStore("b", capabilities=Capabilities(tags=False))}
    with caplog.at_level(logging.INFO):
        assert await ask(made, ["b"], (Rule("r", "a", ("b",)),)) == set()
    assert caplog.messages[0] == "b: copies on condition, deletes unconditional"
    assert caplog.messages[1].startswith("r to b: The target keeps to no condition on deletes: ")
    assert any("write `tags: false`" in message for message in caplog.messages)


async def test_on_a_target_that_is_away_nothing_is_relied(caplog: pytest.LogCaptureFixture):
    made = stores(Away("c"))
    with caplog.at_level(logging.INFO):
        assert await ask(made, ["b", "c"], RULES) == {"c"}
    assert made["b"].capabilities.conditional_writes
    assert made["b"].capabilities.versions
    assert not made["c"].capabilities.conditional_writes
    assert caplog.messages[0] == "c could not be asked what it can do: no answer"
    assert (
        "c: copies unconditional, deletes unconditional until it has been asked" in caplog.messages
    )


@pytest.mark.parametrize("error", [Transient("no answer"), Denied("no")])
async def test_it_is_asked_again_until_it_answers(
    monkeypatch: pytest.MonkeyPatch, error: TandemError
):
    away = Away("c")
    away.error = error
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            away.error = None

    monkeypatch.setattr(probing.asyncio, "sleep", pause)
    await ask_again(stores(away), {"c"}, RULES)
    assert pauses == [probing.PAUSE] * 3
    assert away.capabilities.conditional_writes


@pytest.mark.parametrize(
    ("rule", "why", "faulty"),
    [
        (Rule("r", "a", ("b", "c"), versions="all"), "has versions: all", ["a", "c"]),
        (Rule("r", "b", ("c",), two_way=True), "goes both ways", ["c"]),
        (Rule("r", "a", ("b", "c")), "", []),
    ],
)
async def test_buckets_that_keep_no_versions_are_told_where_a_rule_is_about_them(
    caplog: pytest.LogCaptureFixture, rule: Rule, why: str, faulty: list[str]
):
    made = {"a": MemoryStore("a"), "b": MemoryStore("b", versioned=True), "c": MemoryStore("c")}
    with caplog.at_level(logging.ERROR):
        # As an engine has them: both directions of a rule are two, and are told of once.
        await ask(made, [site for way in rule.directions for site in way.targets], rule.directions)
    assert caplog.messages == [
        f"rule r {why}, and the versioning of the bucket {site} of the site {site} is off: "
        "turn it on (`versioning: true` of the site), or let the rule do without"
        for site in faulty
    ]


async def test_a_target_that_does_not_answer_holds_nobody_up():
    class Mute(MemoryStore):
        async def _turn(self, operation: str, key: str) -> None:
            del operation, key
            await asyncio.Event().wait()

    mute = Mute("c")
    assert await ask({"a": MemoryStore("a"), "c": mute}, ["c"], RULES, patience=0.01) == {"c"}
    assert not mute.capabilities.conditional_writes


async def test_a_slow_target_is_given_time_when_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
):
    class Slow(MemoryStore):
        async def _turn(self, operation: str, key: str) -> None:
            del operation, key
            await asyncio.sleep(0.002)

    monkeypatch.setattr(probing, "PAUSE", 0.0)
    slow = Slow("c")
    made = {"a": MemoryStore("a"), "c": slow}
    unknown = await ask(made, ["c"], RULES, patience=0.01)
    assert unknown == {"c"}
    await ask_again(made, unknown, RULES)
    assert slow.capabilities.conditional_writes
    assert [entry.key async for entry in slow.list()] == []
