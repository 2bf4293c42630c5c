"""How long to wait before the next attempt."""

from __future__ import annotations

import random

from tandem.errors import TandemError, Unfinished

FIRST_DELAY, LONGEST_DELAY = 0.25, 15.0


def backoff(attempt: int) -> float:
    """Return the delay in seconds before the next attempt: exponential, capped, with full jitter.

    Full jitter spreads the retries of many workers: AWS Architecture Blog, "Exponential Backoff
    And Jitter".
    """
    ceiling = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(attempt - 1, 16))
    return random.uniform(ceiling / 10, ceiling)  # noqa: S311 -- spreading load, not guarding it


def delay_after(error: TandemError, attempt: int) -> float:
    """Return the delay in seconds before the next attempt, after `error` ended one."""
    if isinstance(error, Unfinished) and error.sent:
        return 0.0
    delay = backoff(attempt)
    if error.retry_after is not None:
        return max(delay, error.retry_after)
    return delay
