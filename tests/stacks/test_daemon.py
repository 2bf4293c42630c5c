"""Processes as the operating system knows them."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from stacks.local import daemon, logfile
from stacks.local.daemon import Daemon, StartError

SLEEP = "import time; time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"  # noqa: E501 -- a program
PARENT = f"import subprocess, sys, time; print(subprocess.Popen([sys.executable, '-c', {DEAF!r}]).pid, flush=True); time.sleep(600)"  # noqa: E501 -- a program

Spawn = Callable[[str], Daemon]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Give a function that starts a Python program as a daemon."""
    started = []

    def start(program: str) -> Daemon:
        process = daemon.spawn(
            [sys.executable, "-c", program],
            environment=dict(os.environ),
            folder=tmp_path,
            log=tmp_path / "it.log",
            record=tmp_path / "it.pid",
        )
        started.append(process)
        return process

    yield start
    for process in started:
        daemon.stop(process, seconds=0)


def printed(folder: Path) -> str:
    """Wait for the first line of the log."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        line, ended, _ = (folder / "it.log").read_text().partition("\n")
        if ended:
            return line
        time.sleep(0.02)
    raise AssertionError("nothing was printed")


def test_a_daemon_leads_its_own_session_and_holds_nothing_of_ours(spawn: Spawn, tmp_path: Path):
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    process = spawn(SLEEP)
    assert os.getsid(process.pid) == process.pid
    open_files = {
        descriptor: str(Path(f"/proc/{process.pid}/fd/{descriptor}").readlink())
        for descriptor in (0, 1, 2)
    }
    log = str(tmp_path / "it.log")
    assert open_files == {0: "/dev/null", 1: log, 2: log}
    os.close(writer)
    assert os.read(reader, 1) == b""  # end of file: the daemon has not kept the other end
    os.close(reader)


def test_its_pid_file_names_it_and_is_for_its_owner_only(spawn: Spawn, tmp_path: Path):
    process = spawn(SLEEP)
    record = tmp_path / "it.pid"
    assert daemon.recorded(record) == process
    assert set(json.loads(record.read_text())) == {"pid", "created"}
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "it.log").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x", "created": 1}'])
def test_a_pid_file_that_makes_no_sense_names_nobody(text: str, tmp_path: Path):
    (tmp_path / "it.pid").write_text(text)
    assert daemon.recorded(tmp_path / "it.pid") is None


def test_a_missing_pid_file_names_nobody(tmp_path: Path):
    assert daemon.recorded(tmp_path / "it.pid") is None


def test_a_process_that_was_given_the_pid_again_is_a_stranger(spawn: Spawn):
    process = spawn(SLEEP)
    old = replace(process, created=process.created - 3600)
    assert process.alive
    assert not old.alive
    daemon.stop(old)
    assert process.alive


def test_a_clock_that_was_corrected_makes_no_stranger(spawn: Spawn):
    process = spawn(SLEEP)
    assert replace(process, created=process.created + 1).alive


def test_a_zombie_is_dead():
    child = subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True)
    process = Daemon(child.pid, psutil.Process(child.pid).create_time())
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not reaped
    assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
    assert not process.alive
    daemon.stop(process)
    child.wait()


def test_stopping_asks_first(spawn: Spawn, tmp_path: Path):
    process = spawn(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit()))\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)"
    )
    printed(tmp_path)
    daemon.stop(process)
    assert not process.alive
    assert (tmp_path / "it.log").read_text() == "ready\nbye\n"


def test_stopping_kills_what_does_not_listen(spawn: Spawn, tmp_path: Path):
    process = spawn(DEAF)
    printed(tmp_path)
    daemon.stop(process, seconds=0.3)
    assert not psutil.pid_exists(process.pid)


def test_stopping_ends_what_the_process_has_started(spawn: Spawn, tmp_path: Path):
    process = spawn(PARENT)
    grandchild = int(printed(tmp_path))
    daemon.stop(process, seconds=1)
    assert daemon.find(grandchild) is None


def test_stopping_a_dead_process_ends_what_it_left(spawn: Spawn, tmp_path: Path):
    process = spawn(PARENT)
    grandchild = int(printed(tmp_path))
    os.kill(process.pid, signal.SIGKILL)
    limit = time.monotonic() + 60
    while process.alive:
        assert time.monotonic() < limit
    assert daemon.find(grandchild) is not None
    daemon.stop(process)
    assert daemon.find(grandchild) is None


def test_waiting_ends_when_it_is_ready(spawn: Spawn, tmp_path: Path):
    process = spawn("from pathlib import Path; Path('ready').touch(); import time; time.sleep(600)")
    assert daemon.wait(process, (tmp_path / "ready").exists, seconds=20) is None


def test_waiting_ends_at_once_when_the_process_does(spawn: Spawn):
    process = spawn("raise SystemExit(3)")
    began = time.monotonic()
    assert daemon.wait(process, lambda: False, seconds=60) == "ended as soon as it had started"
    assert time.monotonic() - began < 30


def test_waiting_ends_with_the_patience(spawn: Spawn):
    process = spawn(SLEEP)
    assert daemon.wait(process, lambda: False, seconds=0.2) == "was not ready within 0 s"


def test_a_program_that_is_not_there_says_so(tmp_path: Path):
    with pytest.raises(StartError, match="/nowhere/program cannot be started"):
        daemon.spawn(
            ["/nowhere/program"],
            environment={},
            folder=tmp_path,
            log=tmp_path / "it.log",
            record=tmp_path / "it.pid",
        )
    assert not (tmp_path / "it.pid").exists()


def test_a_log_is_appended_to(spawn: Spawn, tmp_path: Path):
    (tmp_path / "it.log").write_text("before\n")
    process = spawn("print('after', flush=True)")
    daemon.wait(process, lambda: False, seconds=20)
    assert (tmp_path / "it.log").read_text() == "before\nafter\n"


def test_a_large_log_is_set_aside_and_three_older_ones_are_kept(tmp_path: Path):
    log = tmp_path / "it.log"
    for number in range(6):
        log.write_text(f"{number}" * 100)
        logfile.rotate(log, most_bytes=99)
    assert not log.exists()
    kept = {path.name: path.read_text()[0] for path in tmp_path.iterdir()}
    assert kept == {"it.log.1": "5", "it.log.2": "4", "it.log.3": "3"}


def test_a_small_log_stays(tmp_path: Path):
    log = tmp_path / "it.log"
    log.write_text("x" * 99)
    logfile.rotate(log, most_bytes=99)
    assert [path.name for path in tmp_path.iterdir()] == ["it.log"]


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path):
    log = tmp_path / "it.log"
    log.write_text("".join(f"line {number}\n" for number in range(5000)))
    assert logfile.tail(log, lines=2) == "    line 4998\n    line 4999"
    assert logfile.tail(tmp_path / "none.log") == "    (nothing)"
