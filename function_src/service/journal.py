"""When work that recurs was done and how it went: a file for each, which outlives a restart."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar


@dataclass(slots=True)
class Round:
    """Hold one round of work on all rules, and how it ended if it has.

    `began` and `ended` are ISO 8601 in UTC; `seconds` is the time of work, that of the service's
    earlier lives included. `done` names the routes that are behind it.
    """

    name: ClassVar[str]

    began: str
    ended: str | None = None
    seconds: float = 0.0
    error: str | None = None
    done: list[str] = field(default_factory=list)

    @property
    def age(self) -> timedelta:
        """Return how long ago the round began."""
        return now() - datetime.fromisoformat(self.began)

    def to_json(self) -> dict[str, Any]:
        """Return the round as JSON knows it, without the routes."""
        told = asdict(self)
        del told["done"]
        return told


@dataclass(slots=True)
class ReconcileRound(Round):
    """Hold one reconcile: `keys` were compared, and `changes` emitted."""

    name: ClassVar[str] = "reconcile"

    keys: int = 0
    changes: int = 0


@dataclass(slots=True)
class SweepRound(Round):
    """Hold one sweep: how many uploads were aborted, the `bytes` they held, and how many kept."""

    name: ClassVar[str] = "sweep"

    aborted: int = 0
    bytes: int = 0
    kept: int = 0


R = TypeVar("R", bound=Round)


class Journal(Generic[R]):
    """Remember when the next round is due, the one under way, and the last that ended."""

    def __init__(self, folder: Path, kind: type[R]) -> None:
        self._path = folder / f"{kind.name}.json"
        self._kind = kind
        self.due: datetime | None = None
        self.current: R | None = None
        self.last: R | None = None
        self._read()

    def _read(self) -> None:
        try:
            told = json.loads(self._path.read_text(encoding="utf-8"))
            self.due = datetime.fromisoformat(told["due"]) if told["due"] else None
            self.current = self._kind(**told["current"]) if told["current"] else None
            self.last = self._kind(**told["last"]) if told["last"] else None
        except (OSError, ValueError, KeyError, TypeError):
            # None there, or not of our making: begin anew.
            self.due = self.current = self.last = None

    def write(self) -> None:
        """Write everything down, all of it or nothing."""
        told = {
            "due": self.due.isoformat() if self.due else None,
            "current": asdict(self.current) if self.current else None,
            "last": asdict(self.last) if self.last else None,
        }
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(told, indent=2), encoding="utf-8")
        part.replace(self._path)

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Say whether this process alone may do a round now; of those that ask at once, one may."""
        with self._path.with_suffix(".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                # Another process may have written since.
                self._read()
                yield True


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)
