"""The look that comes after everything that was given up must be over. Pure.

A request whose answer never came may still be carried out, a minute later at most, and undo what
was done since. So its key is looked at once more after that time. The look is a message of its own,
since the one that led to the request may be settled by another worker who has it too. Nobody may
know of the request any more: whoever sent it may have died. So a message that comes a second time
is followed by such a look as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from tandem.change import Change

# The longest, in seconds, that an abandoned request may live before it is carried out.
SETTLE = 60.0


def late_look(change: Change, now: datetime) -> Change:
    """Return the message that asks for another look at the key of a change, when it is time."""
    hint = Change(change.site, change.key, rule=change.rule, target=change.target)
    return put_off(hint, now, SETTLE)


def put_off(change: Change, now: datetime, seconds: float) -> Change:
    """Return a change that is not to be handled before so many seconds have passed."""
    return replace(change, due=now + timedelta(seconds=seconds))


def time_left(changes: Iterable[Change], now: datetime) -> float:
    """Return how many seconds are left until the last of some changes is due, 0 if all are."""
    return max(((one.due - now).total_seconds() for one in changes if one.due), default=0.0)


def in_doubt(change: Change, attempt: int) -> bool:
    """Return whether somebody may have worked on a change before, and left a request under way.

    `attempt` counts the deliveries of its message. One that is put off comes once before its time.
    """
    return attempt > (1 if change.due is None else 2)
