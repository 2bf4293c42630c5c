"""What has been handled of late, so that a notification that tells nothing new costs nothing.

A source may raise each event twice on purpose: at once, and durably a little later. The second
one tells nothing new, for the look that the first one caused came after the event. Nor does an
event that is older than one of its key that has been handled, for the same reason: that look
came after both. Which of two is older only AWS says (`tandem.sequencer`), and only of puts and
deletes; on MinIO and versitygw a sequencer is the time by the clock of whichever node wrote, and
says nothing of the order. Forgetting is harmless, it costs a look.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from tandem import sequencer
from tandem.change import Change

SIZE = 20_000


class Recent:
    """Remember the events handled last, up to `size` of them.

    `ordered` names the sites whose sequencers tell the order of the events of a key.
    """

    def __init__(self, ordered: Iterable[str] = (), size: int = SIZE) -> None:
        self._ordered = frozenset(ordered)
        self._size = size
        self._handled: OrderedDict[tuple[str, str, str, str], None] = OrderedDict()
        # The place of the newest event of each key that has been handled.
        self._newest: OrderedDict[tuple[str, str, str], str] = OrderedDict()

    def note(self, rule: str, target: str, change: Change) -> None:
        """Remember that the event of a change has been handled for a rule at a target.

        The look at the source that handled it began after the event was heard of.
        """
        if change.event is not None:
            self._handled[rule, target, change.key, change.event] = None
            if len(self._handled) > self._size:
                self._handled.popitem(last=False)
        place, key = self._place(change), (rule, target, change.key)
        if place is not None:
            self._newest[key] = max(place, self._newest.pop(key, place))
            if len(self._newest) > self._size:
                self._newest.popitem(last=False)

    def holds(self, rule: str, target: str, change: Change) -> bool:
        """Return whether this very event, or a newer one of its key, has been handled.

        A redriven change never counts.
        """
        if change.rule is not None:
            return False
        if change.event and (rule, target, change.key, change.event) in self._handled:
            return True
        place, newest = self._place(change), self._newest.get((rule, target, change.key))
        return place is not None and newest is not None and place <= newest

    def _place(self, change: Change) -> str | None:
        return sequencer.place(change.sequencer) if change.site in self._ordered else None
