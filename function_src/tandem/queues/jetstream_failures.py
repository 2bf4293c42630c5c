"""Error streams in JetStream: one for each class, in it a subject for each rule."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import datetime

from tandem.change import encode, native
from tandem.errors import ErrorClass
from tandem.queues.base import Failure
from tandem.queues.jetstream_streams import Streams
from tandem.settings import JetStream

# The subject's last word for failures of messages that were never understood.
NO_RULE = "_"


class Failures:
    """Keep failures until they are dropped. Every method raises `Transient` as `Streams` does."""

    def __init__(self, settings: JetStream, streams: Streams) -> None:
        self._settings = settings
        self._streams = streams

    async def add(self, failure: Failure) -> None:
        """Store a failure in the error stream of its class."""
        subject = self._settings.error_subject(failure.error_class, failure.rule or NO_RULE)
        await self._streams.publish(subject, _dump(failure))

    async def all(self, error_class: ErrorClass | None) -> AsyncIterator[Failure]:
        """Yield the failures of a class, or of each, oldest first within each class."""
        for one in ErrorClass if error_class is None else (error_class,):
            stream, subject = self._settings.errors(one), self._settings.error_subject(one)
            # Not beyond what is there now: a redrive may fail again while this goes on.
            number, last = 0, await self._streams.last(stream)
            while number < last:
                stored = await self._streams.next(stream, subject, number + 1)
                if stored is None:
                    break
                number = stored.seq or last
                yield _load(stored.data or b"", str(number))

    async def drop(self, failure: Failure) -> None:
        """Remove a failure from its stream."""
        await self._streams.remove(self._settings.errors(failure.error_class), int(failure.id))

    async def count(self) -> dict[str, dict[ErrorClass, int]]:
        """Return how many failures there are, by rule and class."""
        found: dict[str, dict[ErrorClass, int]] = {}
        for one in ErrorClass:
            held = await self._streams.subjects(self._settings.errors(one))
            for subject, count in held.items():
                rule = subject.rpartition(".")[2]
                found.setdefault("" if rule == NO_RULE else rule, {})[one] = count
        return found


def _dump(failure: Failure) -> bytes:
    told = asdict(failure)
    told["change"] = encode(failure.change).decode() if failure.change else None
    told["since"], told["at"] = failure.since.isoformat(), failure.at.isoformat()
    return json.dumps(told).encode()


def _load(body: bytes, number: str) -> Failure:
    told = json.loads(body)
    change = told["change"]
    return Failure(
        **{
            **told,
            "id": number,
            "error_class": ErrorClass(told["error_class"]),
            "change": native(change) if change else None,
            "since": datetime.fromisoformat(told["since"]),
            "at": datetime.fromisoformat(told["at"]),
        }
    )
