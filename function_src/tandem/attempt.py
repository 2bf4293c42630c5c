"""One attempt at one key at one target, as workers tell each other and `tandem why` recalls it.

What is told is kept for a week, so another version of Tandem may read it than has written it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from tandem.change import Change, encode, native
from tandem.decision import Action, Decision
from tandem.errors import ErrorClass, TandemError
from tandem.outcome import Outcome

# How often a failure that the replicator does not know is tried before it counts as poison.
BUG_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Attempt:
    """Say what a worker made of a change at one target: an outcome, or an error.

    `number` counts the deliveries of the message that told of the change, from 1; `at` is when
    the attempt ended, UTC; `message` says what went wrong, if `error_class` is set.
    """

    worker: str
    rule: str
    target: str
    change: Change
    number: int
    at: datetime
    outcome: Outcome | None = None
    error_class: ErrorClass | None = None
    message: str = ""

    @classmethod
    def of(
        cls,
        worker: str,
        rule: str,
        target: str,
        change: Change,
        number: int,
        ending: Outcome | TandemError,
    ) -> Self:
        """Return an attempt that has ended just now."""
        at = datetime.now(UTC)
        if isinstance(ending, Outcome):
            return cls(worker, rule, target, change, number, at, ending)
        told = str(ending)
        return cls(worker, rule, target, change, number, at, None, ending.error_class, told)

    def to_json(self) -> dict[str, Any]:
        """Return the attempt as people are shown it; times are ISO 8601 in UTC."""
        change, outcome = self.change, self.outcome
        return {
            "worker": self.worker,
            "number": self.number,
            "at": self.at.isoformat(),
            "change": {
                "removed": change.removed,
                "etag": change.etag,
                "version": change.version_id,
                "sequencer": change.sequencer,
                "time": change.time.isoformat() if change.time else None,
            },
            "outcome": outcome.to_json() if outcome else None,
            "class": self.error_class,
            "message": self.message or None,
        }

    def dump(self) -> bytes:
        """Return the JSON text that `load` reads."""
        told = {
            "worker": self.worker,
            "rule": self.rule,
            "target": self.target,
            "change": encode(self.change).decode(),
            "number": self.number,
            "at": self.at.isoformat(),
            "outcome": self.outcome.to_json() if self.outcome else None,
            "class": self.error_class,
            "message": self.message,
        }
        return json.dumps(told).encode()

    @classmethod
    def load(cls, text: bytes) -> Self:
        """Read what `dump` wrote; raises ValueError if it is something else."""
        try:
            told = json.loads(text)
            return cls(
                worker=told["worker"],
                rule=told["rule"],
                target=told["target"],
                change=native(told["change"]),
                number=told["number"],
                at=datetime.fromisoformat(told["at"]),
                outcome=_outcome(told["outcome"]) if told["outcome"] else None,
                error_class=ErrorClass(told["class"]) if told["class"] else None,
                message=told["message"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"this tells of no attempt that we know: {error!r}") from error


def _outcome(told: Mapping[str, Any]) -> Outcome:
    """Return the outcome that `Outcome.to_json` wrote."""
    decision = Decision(Action(told["action"]), told["reason"], awaits=told.get("awaits"))
    known = ("action", "reason", "awaits", "at")
    rest = {name: told[name] for name in told if name not in known}
    return Outcome(**rest, decision=decision, at=datetime.fromisoformat(told["at"]))
