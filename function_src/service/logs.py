"""Where a process of the stack writes its log."""

from __future__ import annotations

import logging
import os
from logging.handlers import RotatingFileHandler

FILE_VARIABLE = "TANDEM_LOG_FILE"
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
MOST_BYTES, KEPT = 5 * 1024 * 1024, 3


def configure() -> None:
    """Log to $TANDEM_LOG_FILE, rotated, or to standard error if it is not set."""
    path = os.environ.get(FILE_VARIABLE)
    handler = (
        RotatingFileHandler(path, maxBytes=MOST_BYTES, backupCount=KEPT)
        if path
        else logging.StreamHandler()
    )
    logging.basicConfig(level=logging.INFO, format=FORMAT, handlers=[handler])
