"""What the model changes of the replicator: sizes, so that few bytes do, and the clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from unittest.mock import patch

from tandem import engine, sharing, worker, writing
from tests.model.clock import EPOCH
from tests.model.world import SMALL


class LoopTime(datetime):
    """Tell the time of the running loop, where a module asks for the time of day."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        assert tz
        return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


@contextmanager
def small_world() -> Iterator[None]:
    """Let the replicator call few bytes many, live by the loop's clock, and keep its log quiet."""
    quiet = logging.root.manager.disable
    # Every fault is told in the log, and there are many.
    logging.disable(logging.CRITICAL)
    try:
        with (
            patch.object(engine, "EAGER", SMALL),
            patch.object(sharing, "EAGER", SMALL),
            patch.object(engine, "datetime", LoopTime),
            patch.object(worker, "datetime", LoopTime),
            patch.object(writing, "datetime", LoopTime),
        ):
            yield
    finally:
        logging.disable(quiet)
