"""Processes that outlive whoever started them, as the operating system knows them.

A process is known by its pid and the time it was created: pids are given again, names prove
nothing. A zombie is dead. Each leads a session of its own, so that whatever it starts can be ended
with it, and so that the end of the terminal that Pulumi runs in is not its end.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from stacks.local import logfile
from stacks.local.private_file import write_private

# The creation time is told from the boot time, which follows corrections of the clock.
CLOCK_SECONDS = 2.0
POLL_SECONDS = 0.05
STOP_SECONDS = 15.0
KILL_SECONDS = 10.0

# Children of this very process stay zombies until they are asked for.
_children: dict[int, subprocess.Popen[bytes]] = {}


class StartError(Exception):
    """Report a process that did not come up; nothing of it is left."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """Name one process for good; `created` is in seconds since 1970."""

    pid: int
    created: float

    @property
    def alive(self) -> bool:
        """Tell whether it runs."""
        found = find(self.pid)
        return found is not None and self.same_as(found)

    def same_as(self, other: Daemon) -> bool:
        """Tell whether both are one process."""
        return self.pid == other.pid and abs(self.created - other.created) <= CLOCK_SECONDS


def find(pid: int) -> Daemon | None:
    """Return the process that has a pid now; None if there is none, or only a zombie."""
    if (child := _children.get(pid)) and child.poll() is not None:
        _children.pop(pid, None)
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return Daemon(pid, process.create_time())
    except psutil.NoSuchProcess:
        return None


def recorded(file: Path) -> Daemon | None:
    """Return the process that a pid file names; None if the file is missing or makes no sense."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        return Daemon(int(told["pid"]), float(told["created"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def spawn(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path, record: Path
) -> Daemon:
    """Start a process in a session of its own and write its pid file.

    It has `folder` as its working directory, appends what it prints to `log`, and has no other
    file open: a pipe of ours would keep Pulumi waiting for as long as the process lives. Raises
    StartError if it cannot be executed.
    """
    logfile.rotate(log)
    with log.open("ab") as output:
        os.chmod(output.fileno(), 0o600)  # noqa: PTH101 -- of the very file that is open
        try:
            child = subprocess.Popen(  # noqa: S603 -- our own command, without a shell
                command,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            raise StartError(f"{command[0]} cannot be started: {error}") from error
    _children[child.pid] = child
    daemon = Daemon(child.pid, psutil.Process(child.pid).create_time())
    write_private(record, json.dumps(asdict(daemon)))
    return daemon


def wait(daemon: Daemon, ready: Callable[[], bool], seconds: float) -> str | None:
    """Wait until a process is ready; return None, or what went wrong."""
    limit = time.monotonic() + seconds
    while not ready():
        if not daemon.alive:
            return "ended as soon as it had started"
        if time.monotonic() > limit:
            return f"was not ready within {seconds:.0f} s"
        time.sleep(POLL_SECONDS)
    return None


def stop(daemon: Daemon, seconds: float = STOP_SECONDS) -> None:
    """End a process and all of its session: TERM to the process, then KILL to whatever is left.

    Returns when all of it is gone. Raises RuntimeError if something cannot be killed.
    """
    if daemon.alive:
        _signal(daemon.pid, psutil.Process.terminate)
        _wait_for(lambda: not daemon.alive, seconds)
    limit = time.monotonic() + KILL_SECONDS
    while rest := _session(daemon):
        for pid in rest:
            _signal(pid, psutil.Process.kill)
        if time.monotonic() > limit:
            raise RuntimeError(f"these processes cannot be killed: {sorted(rest)}")
        time.sleep(POLL_SECONDS)


def _session(daemon: Daemon) -> list[int]:
    """List what lives in the session that a process leads or led.

    The kernel gives the number of a session to no new process while any of it lives. So if the
    number is now the pid of a stranger, or dates from before the last boot, the session is over.
    """
    holder = find(daemon.pid)
    if holder is not None and not daemon.same_as(holder):
        return []
    if daemon.created < psutil.boot_time() - CLOCK_SECONDS:
        return []
    return [
        pid
        for pid in psutil.pids()
        if pid != os.getpid() and _session_of(pid) == daemon.pid and find(pid) is not None
    ]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _signal(pid: int, send: Callable[[psutil.Process], None]) -> None:
    try:
        send(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return


def _wait_for(condition: Callable[[], bool], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(POLL_SECONDS)
