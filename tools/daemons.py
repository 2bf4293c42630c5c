"""Stop the daemons of a stack that no `pulumi destroy` knows of: an interrupted run left them.

A daemon is what its pid file says: a pid, and when that process was created. The kernel gives a pid
to others once it is free, so both must agree; a name proves nothing.
"""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

from tools import sessions
from tools.steps import say

CLOCK_TOLERANCE = 2.0  # seconds; the boot time that creation is told from follows clock corrections
GRACE_SECONDS = 10.0
POLL_SECONDS = 0.05


def stop(file: Path) -> None:
    """End the process that a pid file names, in order if it can, and remove the file."""
    pid = _recorded(file)
    process = sessions.look(pid) if pid else None
    if pid and process:
        say(f"    ending {file.stem} (pid {pid}), left by an interrupted run")
        _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while sessions.look(pid) == process and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if sessions.look(pid) == process:
            _signal(pid, signal.SIGKILL)
    file.unlink(missing_ok=True)


def created(process: sessions.Process) -> float:
    """Return when a process was created, in seconds since 1970, as psutil tells it."""
    lines = (sessions.PROC / "stat").read_text().splitlines()
    boot = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
    return boot + process.start / os.sysconf("SC_CLK_TCK")


def _recorded(file: Path) -> int | None:
    """Return the pid in a file, `{"pid": …, "created": …}`, if it is still the same process."""
    try:
        recorded = json.loads(file.read_text())
        pid, birth = int(recorded["pid"]), float(recorded["created"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    process = sessions.look(pid)
    if process and abs(created(process) - birth) <= CLOCK_TOLERANCE:
        return pid
    return None


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
