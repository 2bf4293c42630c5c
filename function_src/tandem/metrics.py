"""What a worker counts and measures, whoever keeps the figures."""

from __future__ import annotations

from typing import Protocol

from tandem.errors import ErrorClass
from tandem.outcome import Outcome


class Metrics(Protocol):
    """Keep the figures of a worker."""

    def converged(self, outcome: Outcome) -> None:
        """Count an outcome, its lag, its time and its bytes."""
        ...

    def failed(self, rule: str, target: str, error_class: ErrorClass, *, final: bool) -> None:
        """Count a failure; `final` if the work went to the error stream of its class."""
        ...

    def retried(self) -> None:
        """Count a message that must come again."""
        ...


class NoMetrics:
    """Keep nothing."""

    def converged(self, outcome: Outcome) -> None:
        """Forget it."""

    def failed(self, rule: str, target: str, error_class: ErrorClass, *, final: bool) -> None:
        """Forget it."""

    def retried(self) -> None:
        """Forget it."""
