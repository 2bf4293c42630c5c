"""The bound in bytes, and groups that fail plainly."""

from __future__ import annotations

import asyncio

import pytest

from tandem.concurrency import Budget, both, together
from tandem.errors import Conflict


async def test_a_budget_is_never_exceeded():
    budget, held, most = Budget(10), 0, 0

    async def hold(size: int) -> None:
        nonlocal held, most
        async with budget.take(size):
            held += size
            most = max(most, held)
            await asyncio.sleep(0)
            held -= size

    await asyncio.gather(*(hold(size) for size in (4, 7, 1, 10, 3, 3, 3, 3, 9) * 20))
    assert most <= 10
    assert held == 0


async def test_a_large_request_is_not_starved_by_small_ones():
    budget, order = Budget(10), []

    async def hold(name: str, size: int) -> None:
        async with budget.take(size):
            order.append(name)
            await asyncio.sleep(0.001)

    await asyncio.gather(hold("a", 6), hold("large", 10), hold("b", 1), hold("c", 1))
    assert order == ["a", "large", "b", "c"]


async def test_more_than_the_whole_budget_is_refused():
    with pytest.raises(ValueError, match="11 bytes were asked of a budget of 10"):
        async with Budget(10).take(11):
            pytest.fail("it was granted")


async def test_a_budget_is_given_back_after_a_failure_and_a_cancellation():
    budget = Budget(1)
    with pytest.raises(ZeroDivisionError):
        async with budget.take(1):
            raise ZeroDivisionError

    async def hold() -> None:
        async with budget.take(1):
            await asyncio.sleep(60)

    holder = asyncio.create_task(hold())
    waiter = asyncio.create_task(hold())
    await asyncio.sleep(0)
    for task in (waiter, holder):
        task.cancel()
    await asyncio.gather(holder, waiter, return_exceptions=True)
    async with asyncio.timeout(60), budget.take(1):
        pass


async def test_a_group_fails_with_its_first_failure_and_cancels_the_rest():
    cancelled = asyncio.Event()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise Conflict("moved")

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(Conflict, match="moved"):
        await together(wait(), fail())
    assert cancelled.is_set()


async def test_both_gives_both_results():
    assert await both(asyncio.sleep(0, "a"), asyncio.sleep(0, 2)) == ("a", 2)


@pytest.mark.parametrize("first_fails", [True, False])
async def test_both_fails_with_whichever_fails(first_fails: bool):
    async def fail() -> None:
        raise Conflict("moved")

    pair = (fail(), asyncio.sleep(0)) if first_fails else (asyncio.sleep(0), fail())
    with pytest.raises(Conflict, match="moved"):
        await both(*pair)
