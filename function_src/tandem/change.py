"""Notifications decoded to changes. Pure.

A change is only a hint that a key may have changed; the engine reads both sides before it acts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Dialect = Literal["minio", "aws", "versitygw"]


@dataclass(frozen=True, slots=True)
class Change:
    """Hint that `key` of the site `site` may have changed.

    `etag`, `size` (bytes), `version_id`, `sequencer` and `time` (UTC) are what the notification
    claimed, if it did; nothing but speed may depend on them. `removed` says that it spoke of a
    delete. `rule` and `target` narrow the hint to one rule or target, as a redrive does.
    """

    site: str
    key: str
    removed: bool = False
    etag: str | None = None
    size: int | None = None
    version_id: str | None = None
    sequencer: str | None = None
    time: datetime | None = None
    rule: str | None = None
    target: str | None = None
