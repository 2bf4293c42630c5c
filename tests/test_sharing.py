"""One source, many targets: read once, written to all, and none waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tandem import backoff as delays
from tandem import late_look
from tandem.change import Change
from tandem.engine import Engine
from tandem.errors import Conflict, Denied, Transient
from tandem.metrics import NoMetrics
from tandem.queues.memory import MemoryQueue
from tandem.rule import Rule
from tandem.settings import Site
from tandem.sharing import EAGER, SharedReading
from tandem.stores.base import Content, ObjectState
from tandem.stores.memory import MemoryStore
from tandem.worker import Worker

TARGETS = ("near", "right", "far")
FAN = Rule("fan", "source", TARGETS)
SITES = {"source": Site("source", "bucket", "http://127.0.0.1:9", "u", "p")}
SMALL, LARGER = b"small", b"x" * (EAGER + 1)


class Watched(MemoryStore):
    """A store that notes what it is asked, and fails or waits when told to."""

    def __init__(self, site: str) -> None:
        super().__init__(site)
        self.calls: list[str] = []
        self.failing: dict[str, list[Exception]] = {}
        self.gates: dict[str, asyncio.Event] = {}

    async def _turn(self, operation: str, key: str) -> None:
        await super()._turn(operation, key)
        self.calls.append(operation)
        if left := self.failing.get(operation):
            raise left.pop(0)
        if operation in self.gates:
            await self.gates[operation].wait()


class Fan:
    """A source and its targets, and a worker between them."""

    def __init__(self, *rules: Rule) -> None:
        self.stores = {name: Watched(name) for name in ("source", *TARGETS)}
        self.source = self.stores["source"]
        self.engine = Engine(self.stores, rules or (FAN,))
        self.queue = MemoryQueue(lease=1.0)

    async def put(self, body: bytes, key: str = "k") -> Change:
        written = await self.source.put(key, body, Content())
        return Change("source", key, etag=written.etag, size=len(body))

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        worker = Worker(self.queue, self.engine, SITES, NoMetrics(), slots=4)
        running = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            worker.stop()
            await running

    async def until(self, holds: Any) -> None:
        async with asyncio.timeout(60):
            while not await holds():  # noqa: ASYNC110 -- what is waited for has no event
                await asyncio.sleep(0.005)

    async def level(self, *names: str, key: str = "k") -> bool:
        """Return whether these targets hold what the source does."""
        states = [await MemoryStore.head(self.stores[name], key) for name in ("source", *names)]
        return len({state and state.etag for state in states}) == 1

    async def empty(self) -> bool:
        return not (await self.queue.backlog()).count


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delays, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(late_look, "SETTLE", 0.1)


@pytest.mark.parametrize("body", [SMALL, LARGER], ids=["small", "larger"])
@pytest.mark.parametrize(
    "rules",
    [(FAN,), tuple(Rule(name, "source", (name,)) for name in TARGETS)],
    ids=["one rule", "a rule for each"],
)
async def test_an_object_is_read_once_for_all_targets(body: bytes, rules: tuple[Rule, ...]):
    fan = Fan(*rules)
    async with fan.working():
        await fan.queue.send(await fan.put(body))
        await fan.until(fan.empty)
    assert await fan.level(*TARGETS)
    assert (fan.source.calls.count("open"), fan.source.calls.count("read")) == (1, 1)
    assert [fan.stores[name].calls.count("put") for name in TARGETS] == [1, 1, 1]


async def test_a_target_that_hangs_delays_no_other():
    fan = Fan()
    fan.stores["far"].gates["put"] = asyncio.Event()
    async with fan.working():
        for key in ("a", "b", "c"):
            await fan.queue.send(await fan.put(SMALL, key))
            await fan.until(lambda key=key: fan.level("near", "right", key=key))
        fan.stores["far"].gates["put"].set()
        await fan.until(fan.empty)
    assert all([await fan.level(*TARGETS, key=key) for key in ("a", "b", "c")])


@pytest.mark.parametrize("body", [SMALL, LARGER], ids=["small", "larger"])
@pytest.mark.parametrize("error", [Transient("reset"), Denied("no")])
async def test_a_target_that_fails_has_the_others_written_once(body: bytes, error: Exception):
    fan = Fan()
    fan.stores["far"].failing["put"] = [error] * 3
    async with fan.working():
        await fan.queue.send(await fan.put(body))
        await fan.until(fan.empty)
    assert [fan.stores[name].calls.count("put") for name in ("near", "right")] == [1, 1]
    assert await fan.level(*TARGETS) is isinstance(error, Transient)


async def test_a_write_that_one_target_gave_up_is_looked_at_once_more_and_there_alone():
    fan = Fan()
    fan.stores["far"].failing["put"] = [Transient("time-out", unresolved=True)]
    fan.stores["far"].failing["head"] = [Transient("reset")]
    async with fan.working():
        await fan.queue.send(await fan.put(SMALL))
        await fan.until(fan.empty)
    first, second, third, *later = fan.stores["far"].calls
    assert (first, second, third) == ("put", "head", "put")
    assert set(later) == {"head"}
    assert [fan.stores[name].calls for name in ("near", "right")] == [["put"], ["put"]]
    assert await fan.level(*TARGETS)


async def test_a_reading_that_fails_is_made_anew_and_once():
    fan = Fan()
    change = await fan.put(SMALL)
    fan.source.failing["open"] = [Transient("reset")]
    async with fan.working():
        await fan.queue.send(change)
        await fan.until(fan.empty)
    assert await fan.level(*TARGETS)
    assert fan.source.calls.count("open") == 2


async def test_a_target_that_comes_after_the_reading_looks_for_itself():
    """It may have waited for its turn, and its change may tell of what came since."""
    fan = Fan()
    shared = SharedReading()
    change = await fan.put(SMALL)
    await fan.engine.converge(FAN, "far", change)
    await fan.engine.converge(FAN, "near", change, shared=shared)
    await fan.put(b"newer")
    await fan.engine.converge(FAN, "far", change, shared=shared)
    assert await fan.level("far")


async def test_a_source_that_moves_after_the_reading_is_noticed_by_each_target():
    fan = Fan()
    change = await fan.put(SMALL)
    fan.stores["near"].gates["put"] = fan.stores["far"].gates["put"] = asyncio.Event()
    async with fan.working():
        await fan.queue.send(change)
        await fan.until(lambda: fan.level("right"))
        await fan.put(b"newer")
        fan.stores["near"].gates.clear()
        fan.stores["far"].gates.pop("put").set()
        await fan.until(fan.empty)
    assert await fan.level("near", "far")


async def state(fan: Fan) -> ObjectState:
    found = await fan.source.head("k")
    assert found is not None
    return found


async def test_bytes_are_held_for_as_long_as_somebody_wants_them():
    fan, shared = Fan(), SharedReading()
    await fan.put(LARGER)
    seen = await state(fan)
    async with shared.whole(fan.source, seen) as first:
        async with shared.whole(fan.source, seen) as second:
            assert second is first
        async with shared.whole(fan.source, seen) as third:
            assert third is first
    assert fan.source.calls.count("open") == 1
    async with shared.whole(fan.source, seen):
        assert fan.source.calls.count("open") == 2


async def test_bytes_are_those_of_the_state_that_was_seen():
    fan, shared = Fan(), SharedReading()
    await fan.put(LARGER)
    old = await state(fan)
    async with shared.whole(fan.source, old):
        await fan.put(LARGER + b"newer")
        async with shared.whole(fan.source, await state(fan)) as body:
            assert body == LARGER + b"newer"
    with pytest.raises(Conflict):
        async with shared.whole(fan.source, old):
            pass


async def test_one_who_gives_up_does_not_take_the_reading_from_the_others():
    fan, shared = Fan(), SharedReading()
    await fan.put(LARGER)
    seen = await state(fan)
    gate = fan.source.gates["read"] = asyncio.Event()

    async def use() -> bytes | bytearray:
        async with shared.whole(fan.source, seen) as body:
            return body

    async def look() -> bool:
        return (await shared.glance(fan.source, "k"))[0] == seen

    for want in (use, look):
        first, second = asyncio.create_task(want()), asyncio.create_task(want())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0.01)
        gate.set()
        assert await second
        assert first.cancelled()
        assert fan.source.calls.count("open") == 1
        fan.source.calls.clear()


async def test_a_reading_that_nobody_waits_for_any_more_ends():
    fan, shared = Fan(), SharedReading()
    await fan.put(LARGER)
    seen = await state(fan)
    fan.source.gates["read"] = asyncio.Event()
    before = asyncio.all_tasks()

    async def use() -> None:
        async with shared.whole(fan.source, seen):
            raise AssertionError("nothing was read")

    task = asyncio.create_task(use())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
