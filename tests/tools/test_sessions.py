"""What an interrupted run left is ended, and nothing else."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tools import daemons, sessions

pytestmark = pytest.mark.skipif(not sessions.PROC.exists(), reason="read from /proc")


def test_what_a_killed_run_left_is_ended_and_its_daemons_are_not(tmp_path):
    program = (
        "import subprocess, sys, time\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "provider = subprocess.Popen(sleep, stdout=subprocess.DEVNULL)\n"
        "daemon = subprocess.Popen(sleep, stdout=subprocess.DEVNULL, start_new_session=True)\n"
        "print(provider.pid, daemon.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert leader.stdout
    with leader.stdout:
        provider, daemon = map(int, leader.stdout.readline().split())
    file = tmp_path / "pulumi.session"
    sessions.record(file, leader.pid)
    leader.kill()
    leader.wait()
    assert sessions.look(provider)
    try:
        sessions.settle(file)
        assert sessions.look(daemon)
    finally:
        os.kill(daemon, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while sessions.look(provider):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not file.exists()


def test_a_session_number_given_to_another_is_not_touched(tmp_path):
    file = tmp_path / "pulumi.session"
    file.write_text(json.dumps({"pid": os.getsid(0), "start": 2**62}))
    sessions.settle(file)
    assert not file.exists()


@pytest.fixture
def daemon(tmp_path):
    """Start a process that ignores TERM when told to, with a pid file beside it."""
    started = []

    def start(*, stubborn: bool = False):
        program = "import signal, time\n"
        if stubborn:
            program += "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        program += "print('ready', flush=True)\ntime.sleep(60)\n"
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True
        )
        started.append(process)
        process.stdout.readline()
        file = tmp_path / f"daemon-{process.pid}.pid"
        birth = psutil.Process(process.pid).create_time()
        file.write_text(json.dumps({"pid": process.pid, "created": birth}))
        return process, file

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_daemon_left_behind_is_ended(daemon, monkeypatch, stubborn):
    monkeypatch.setattr(daemons, "GRACE_SECONDS", 0.3 if stubborn else 10)
    process, file = daemon(stubborn=stubborn)
    daemons.stop(file)
    assert process.wait(timeout=60) == (-signal.SIGKILL if stubborn else -signal.SIGTERM)
    assert not file.exists()


@pytest.mark.parametrize("text", ["", "{}", '{"pid": "x"}', '{"pid": PID, "created": 1.5}'])
def test_another_process_with_the_same_pid_is_not_touched(daemon, text):
    process, file = daemon()
    file.write_text(text.replace("PID", str(process.pid)))
    daemons.stop(file)
    assert process.poll() is None
    assert not file.exists()


def test_creation_is_told_as_psutil_tells_it():
    mine = sessions.look(os.getpid())
    assert mine
    assert daemons.created(mine) == pytest.approx(psutil.Process().create_time(), abs=1)
