"""How the convergence of one key at one target ended. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tandem.decision import Action, Decision


@dataclass(frozen=True, slots=True)
class Outcome:
    """Say how the convergence of one key at one target ended.

    `size` is in bytes, 0 unless bytes were copied; `seconds` is what it took; `lag` is the
    target's becoming visible minus the source's last-modified, in seconds, None if nothing was
    written; `rounds` counts looks; `recheck`, in seconds, asks for another look after that time,
    because a request that was given up may still be carried out.
    """

    rule: str
    source: str
    target: str
    key: str
    decision: Decision
    size: int
    seconds: float
    lag: float | None
    rounds: int
    recheck: float | None
    at: datetime

    @property
    def held(self) -> bool:
        """Return whether the key is held back, so that its change must come again."""
        return self.decision.action is Action.HOLD

    @property
    def settled(self) -> bool:
        """Return whether nothing is left to do, as far as the look told."""
        return self.recheck is None and not self.held

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON knows it; times are ISO 8601 in UTC."""
        return {
            "rule": self.rule,
            "source": self.source,
            "target": self.target,
            "key": self.key,
            "action": self.decision.action.value,
            "reason": self.decision.reason,
            "awaits": self.decision.awaits,
            "size": self.size,
            "seconds": self.seconds,
            "lag": self.lag,
            "rounds": self.rounds,
            "recheck": self.recheck,
            "at": self.at.isoformat(),
        }
