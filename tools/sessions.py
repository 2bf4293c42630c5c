"""Know a run of Pulumi by the session it leads, so that what a killed run left can be ended.

Pulumi's language host and provider processes outlive a Pulumi that was killed, and a provider may
still be at work. They stay in its session, whose number the kernel gives to no one else as long
as one of them lives. The daemons that a stack stands up lead sessions of their own and are not
touched. Sessions are read from /proc; where there is none (macOS), nothing is known or ended.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.steps import say

PROC = Path("/proc")
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Process:
    """A living process: its command's name, its session, and its start in ticks since boot."""

    pid: int
    command: str
    session: int
    start: int


def look(pid: int) -> Process | None:
    """Return a process as /proc shows it; None where it is gone, or dead and not yet reaped."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name stands in parentheses and may hold any character, so look from its end (proc(5)).
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    if fields[0] in {"Z", "X"}:
        return None
    return Process(pid, head.partition("(")[2], session=int(fields[3]), start=int(fields[19]))


def record(file: Path, pid: int) -> None:
    """Write down the leader of a session that has just begun."""
    leader = look(pid)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"pid": pid, "start": leader.start if leader else 0}))


def settle(file: Path) -> None:
    """Wait for a recorded run that is still at work, then end what it left, and forget it."""
    try:
        recorded = json.loads(file.read_text())
        pid, start = int(recorded["pid"]), int(recorded["start"])
    except (OSError, ValueError, KeyError, TypeError):
        file.unlink(missing_ok=True)
        return
    leader = look(pid)
    if leader and leader.start == start:
        say(f"    waiting: an earlier run's Pulumi (pid {pid}) is still at work")
        while (leader := look(pid)) and leader.start == start:
            time.sleep(POLL_SECONDS)
    for process in _all():
        if process.session == pid and process.start >= start:
            say(f"    ending {process.command} (pid {process.pid}), left by an interrupted run")
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    file.unlink(missing_ok=True)


def _all() -> Iterator[Process]:
    for entry in PROC.glob("[0-9]*"):
        process = look(int(entry.name))
        if process:
            yield process
