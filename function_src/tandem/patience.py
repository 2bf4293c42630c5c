"""What a worker does about an index that is held back, so that it waits for nothing in vain.

What it waits for is on its way, as a rule, and then there is nothing to do but to come again.
But an event may have been lost: then the key gets a change of our own. Or the key lies in an error
stream: then the index goes to that stream too, where it is seen, and redriven with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import aclosing

from tandem.attempt import BUG_ATTEMPTS, Attempt
from tandem.emission import BACKLOG
from tandem.errors import Denied, ErrorClass, Invalid, Missing, Poison, TandemError
from tandem.groups import Explainer, earlier
from tandem.listings import hint
from tandem.outcome import Outcome
from tandem.queues.base import Queue
from tandem.rule import Rule
from tandem.stores.base import Entry

# At its so manyth delivery, some seconds after the first, an index counts as held for long.
LONG = 6
# How many keys get a change at most, each time that such an index comes.
AT_ONCE = 32
# How many changes of our own are remembered, so that none is made twice.
SIZE = 20_000
_LASTING: dict[ErrorClass, type[TandemError]] = {
    error.error_class: error for error in (Denied, Missing, Invalid, Poison)
}


class Patience:
    """See to it that what an index waits for comes, or that the index waits no more."""

    def __init__(self, queue: Queue, engine: Explainer) -> None:
        self._queue = queue
        self._engine = engine
        self._recalled: OrderedDict[tuple[str, str, str, str], None] = OrderedDict()

    async def mind(self, rule: Rule, target: str, outcome: Outcome, attempt: int) -> None:
        """Do what there is to do about an index that is held back, as `outcome` says.

        `attempt` counts the deliveries of its change. Raises the error, Denied, Missing, Invalid
        or Poison, of the class in whose stream the key for which it waits has ended.
        """
        if attempt > 1:
            await self._check(rule, target, outcome)
        if attempt >= LONG:
            await self._recall(rule, target, outcome.key)

    async def _check(self, rule: Rule, target: str, outcome: Outcome) -> None:
        """Raise the error that the awaited key ended in for good, if it did."""
        awaited = outcome.decision.awaits or ""
        state = await self._engine.stores[rule.source].head(awaited)
        if state is None:
            return
        last = _last(await self._queue.history(awaited), rule, target, state.etag)
        if last is None or last.error_class not in _LASTING:
            return
        if last.error_class is ErrorClass.POISON and last.number < BUG_ATTEMPTS:
            return  # it is still tried
        raise _LASTING[last.error_class](
            f"{rule.source}:{outcome.key!r} is held back until {awaited!r} is at {target}, "
            f"and that has failed: {last.message}"
        )

    async def _recall(self, rule: Rule, target: str, index: str) -> None:
        """Queue a change for each key that goes before the index and of which nobody has heard.

        Not while many changes wait: most likely those of the missing keys are among them.
        """
        state = await self._engine.stores[rule.source].head(index)
        waiting = (await self._queue.backlog()).count.get(rule.source, 0)
        if state is None or waiting > BACKLOG:
            return
        changes = []
        async with aclosing(earlier(self._engine.stores, rule, target, state)) as pairs:
            async for pair in pairs:
                if pair.source and await self._is_unheard(rule, target, pair.source):
                    changes.append(hint(rule, target, pair))
                if len(changes) == AT_ONCE:
                    break
        await self._queue.send(*changes)

    async def _is_unheard(self, rule: Rule, target: str, entry: Entry) -> bool:
        """Return whether a change of ours may help: once, and not where one is being tried."""
        recalled = (rule.name, target, entry.key, entry.etag)
        if recalled in self._recalled:
            return False
        last = _last(await self._queue.history(entry.key), rule, target, entry.etag)
        if last and (last.outcome is None or not last.outcome.settled):
            return False
        self._recalled[recalled] = None
        if len(self._recalled) > SIZE:
            self._recalled.popitem(last=False)
        return True


def _last(attempts: Sequence[Attempt], rule: Rule, target: str, etag: str) -> Attempt | None:
    """Return the last of the attempts at a key that may have been about its state `etag`."""
    told = [
        one
        for one in attempts
        if (one.rule, one.target) == (rule.name, target) and one.change.etag in (None, etag)
    ]
    return max(told, key=lambda one: one.at, default=None)
