"""How many deletes a rule may make in an hour, so that a mistake is noticed in time."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable

from tandem.errors import Throttled
from tandem.rule import Rule

WINDOW_SECONDS = 3600.0


class DeleteBudget:
    """Count the deletes of the last hour for each rule and target.

    What other workers have deleted counts as soon as it is heard of; the count begins anew when
    a process does. `clock` tells seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deletes: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)

    def note(self, rule: str, target: str) -> None:
        """Count a delete that was made."""
        self._deletes[rule, target].append(self._clock())

    def check(self, rule: Rule, target: str, key: str) -> None:
        """Raise `Throttled`, with the time until there is room, if one more would be too many."""
        if rule.deletes_per_hour is None:
            return
        made, now = self._deletes[rule.name, target], self._clock()
        while made and made[0] <= now - WINDOW_SECONDS:
            made.popleft()
        if len(made) >= rule.deletes_per_hour:
            raise Throttled(
                f"delete {target}:{key!r} is held back: the rule {rule.name} has made {len(made)} "
                f"deletes there within an hour, and its deletesPerHour is {rule.deletes_per_hour}",
                retry_after=made[0] + WINDOW_SECONDS - now if made else WINDOW_SECONDS,
            )
