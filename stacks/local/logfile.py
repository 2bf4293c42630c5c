"""The log of a process: a file that it appends to, set aside when it has grown."""

from __future__ import annotations

import os
from pathlib import Path

MOST_BYTES = 8 << 20
OLDER = 3
TAIL_LINES, TAIL_BYTES = 20, 8192


def rotate(log: Path, most_bytes: int = MOST_BYTES) -> None:
    """Set a log aside as `<log>.1`, `.2`, `.3` if it has grown beyond `most_bytes`.

    To be called while nobody has the file open.
    """
    if not log.exists() or log.stat().st_size <= most_bytes:
        return
    names = [log, *(log.with_name(f"{log.name}.{number}") for number in range(1, OLDER + 1))]
    for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
        if newer.exists():
            newer.replace(older)


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log, indented."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        text = ""
    told = text.splitlines()[-lines:] or ["(nothing)"]
    return "\n".join(f"    {line}" for line in told)
