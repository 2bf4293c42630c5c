"""What a run of the model has come to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Self


@dataclass
class Tally:
    """Count examples, the steps that they took, and the fates that requests met with."""

    examples: int = 0
    steps: int = 0
    requests: int = 0
    fates: Counter[str] = field(default_factory=Counter)

    @property
    def faults(self) -> int:
        """Return how many requests met with something else than a quick arrival."""
        return self.fates.total()

    def add(self, other: Tally) -> Self:
        self.examples += other.examples
        self.steps += other.steps
        self.requests += other.requests
        self.fates += other.fates
        return self

    def __str__(self) -> str:
        fates = ", ".join(f"{fate} {count:,}" for fate, count in sorted(self.fates.items()))
        return (
            f"{self.examples:,} examples, {self.steps:,} steps, {self.requests:,} requests, "
            f"{self.faults:,} faults ({fates})"
        )
