"""What can go wrong, and whether trying again can help.

    TandemError
    ├── Transient    a time-out, a reset, a 5xx: the same request may succeed later
    ├── Throttled    429 or SlowDown: as Transient, but wait as long as the server says
    ├── Conflict     a precondition failed: somebody moved first, so look again
    ├── Denied       401 or 403: credentials or a policy must change
    ├── Missing      a bucket (never merely a key) is not there
    ├── Invalid      the target cannot hold this key or this object
    ├── Poison       the message itself cannot be understood
    └── Unfinished   no fault: the time was up, and whoever is asked next goes on

The first three go round again with backoff. The rest go to the error stream of their class, where
they are seen, explained and redriven. A key that is not there is an answer, not an error.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class ErrorClass(StrEnum):
    """Name the error streams, and the label `class` of the failure metrics."""

    TRANSIENT = "transient"
    THROTTLED = "throttled"
    CONFLICT = "conflict"
    DENIED = "denied"
    MISSING = "missing"
    INVALID = "invalid"
    POISON = "poison"


class TandemError(Exception):
    """Stand at the root of everything that Tandem raises on purpose."""

    error_class: ClassVar[ErrorClass]
    retryable: ClassVar[bool] = False
    # Whether a write that we gave up waiting for may still be carried out: a time-out is not a no.
    unresolved: bool = False
    # After how many seconds trying again may help, where that is known.
    retry_after: float | None = None


class Transient(TandemError):
    """Report a fault that may pass; `unresolved` if the very request may still be carried out."""

    error_class = ErrorClass.TRANSIENT
    retryable = True

    def __init__(self, message: str, *, unresolved: bool = False) -> None:
        super().__init__(message)
        self.unresolved = unresolved


class Throttled(TandemError):
    """Report that the server asked for patience; `retry_after` is in seconds, if it said."""

    error_class = ErrorClass.THROTTLED
    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Conflict(TandemError):
    """Report that the object moved between the look and the act.

    `retry_after`, in seconds, is set where looking again at once is of no use.
    """

    error_class = ErrorClass.CONFLICT
    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Denied(TandemError):
    """Report that the credentials are wrong or may not do this."""

    error_class = ErrorClass.DENIED


class Missing(TandemError):
    """Report that a bucket is not there; never evidence that any key was deleted."""

    error_class = ErrorClass.MISSING


class Invalid(TandemError):
    """Report that the target cannot represent the key or the object."""

    error_class = ErrorClass.INVALID


class Poison(TandemError):
    """Report a message that cannot be decoded, however often it comes back."""

    error_class = ErrorClass.POISON


class Unfinished(TandemError):
    """Say that a copy was stopped before its deadline and lies at the target to be gone on with.

    The host hands the change on: at once if `sent`, the bytes that this attempt sent, is not 0,
    else after a pause. `done` are the bytes sent by all attempts, `size` those of the object.
    It has no error stream; hosts that count attempts count it with what may pass.
    """

    error_class = ErrorClass.TRANSIENT
    retryable = True

    def __init__(self, message: str, *, sent: int, done: int, size: int) -> None:
        super().__init__(message)
        self.sent = sent
        self.done = done
        self.size = size
