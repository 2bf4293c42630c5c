"""Quantiles of the lag over the last few minutes, from histograms that only ever grow. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

Buckets = Mapping[float, float]
"""How many observations were at most so many seconds: cumulative, the last bound infinite."""


def quantile(buckets: Buckets, q: float) -> float | None:
    """Return the q-quantile (0 to 1) in seconds, None if nothing was observed.

    Interpolates within a bucket, as Prometheus' histogram_quantile does; beyond the last finite
    bound it returns that bound.
    """
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return None
    rank = q * buckets[bounds[-1]]
    below, lower = 0.0, 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= rank and count > below:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        below, lower = count, bound
    return lower


class Window:
    """Tell what a growing histogram has gained over the last so many samples."""

    def __init__(self, samples: int) -> None:
        self._past: deque[Mapping[str, Buckets]] = deque(maxlen=samples)

    def sample(self, now: Mapping[str, Buckets]) -> None:
        """Take note of the histograms as they are now."""
        self._past.append(now)

    def gained(self, now: Mapping[str, Buckets]) -> dict[str, dict[float, float]]:
        """Return, by rule, what has been observed since the oldest sample."""
        past = self._past[0] if self._past else {}
        return {
            rule: {bound: count - past.get(rule, {}).get(bound, 0.0) for bound, count in of.items()}
            for rule, of in now.items()
        }
