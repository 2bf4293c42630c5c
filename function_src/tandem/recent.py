"""What has been handled of late, so that a notification that comes twice costs nothing.

A source may raise each event twice on purpose: at once, and durably a little later. The second
one tells nothing new, for the look that the first one caused came after the event. Only the very
same event counts (`Change.event`). Forgetting is harmless, it costs a look.
"""

from __future__ import annotations

from collections import OrderedDict

from tandem.change import Change

SIZE = 20_000


class Recent:
    """Remember the events handled last, up to `size` of them."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._handled: OrderedDict[tuple[str, str, str, str], None] = OrderedDict()

    def note(self, rule: str, target: str, change: Change) -> None:
        """Remember that the event of a change has been handled for a rule at a target."""
        if change.event is None:
            return
        self._handled[rule, target, change.key, change.event] = None
        if len(self._handled) > self._size:
            self._handled.popitem(last=False)

    def holds(self, rule: str, target: str, change: Change) -> bool:
        """Return whether this very event has been handled; a redriven change never counts."""
        if change.event is None or change.rule is not None:
            return False
        return (rule, target, change.key, change.event) in self._handled
