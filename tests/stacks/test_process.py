"""The resource Process, by its provider and with real processes."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stacks.local import daemon, paths, process
from stacks.local.daemon import StartError
from stacks.local.process import ProcessProvider
from tests.servers import free_port

READY = "import os, pathlib, time; pathlib.Path(os.environ['READY']).touch(); time.sleep(600)"

Properties = dict[str, Any]
Make = Callable[..., Properties]


@pytest.fixture
def provider() -> ProcessProvider:
    return ProcessProvider()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Give a function that returns the inputs of a process, in a project of its own."""
    monkeypatch.setattr(process, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(process, "READY_SECONDS", 20.0)
    (tmp_path / "home").mkdir()
    made: list[Properties] = []

    def inputs(program: str = READY, **changes: Any) -> Properties:
        made.append(
            {
                "name": "it",
                "folder": "home",
                "program": "python",
                "arguments": ["-c", program],
                "environment": {"READY": "{home}/it.ready"},
                # The engine hands numbers over as floats.
                "ports": [],
                "ready": {"file": "it.ready"},
                "fingerprint": "1",
                **changes,
            }
        )
        return made[-1]

    yield inputs
    for each in made:
        ProcessProvider().delete("it", each)


def test_a_process_is_created_when_it_is_ready(
    provider: ProcessProvider, make: Make, tmp_path: Path
):
    made = provider.create(make())
    assert made.id == "it"
    assert made.outs is not None
    assert (tmp_path / "home" / "it.ready").exists()
    found = daemon.recorded(tmp_path / "home" / "it.pid")
    assert found is not None
    assert (found.pid, found.created) == (made.outs["pid"], made.outs["created"])


def test_a_living_process_is_as_it_was(provider: ProcessProvider, make: Make):
    outs = provider.create(make()).outs
    assert outs is not None
    read = provider.read("it", outs)
    assert (read.id, read.outs) == ("it", outs)
    assert provider.diff("it", outs, make()).changes is False


def test_a_process_that_lives_and_is_unwell_is_there(
    provider: ProcessProvider, make: Make, tmp_path: Path
):
    outs = provider.create(make()).outs
    assert outs is not None
    (tmp_path / "home" / "it.ready").unlink()
    assert provider.read("it", outs).id == "it"


def test_a_killed_process_is_gone(provider: ProcessProvider, make: Make):
    outs = provider.create(make()).outs
    assert outs is not None
    os.kill(outs["pid"], signal.SIGKILL)
    limit = time.monotonic() + 60
    while provider.read("it", outs).id:
        assert time.monotonic() < limit


def test_a_process_of_an_interrupted_up_is_ended_before_another_starts(
    provider: ProcessProvider, make: Make
):
    first = provider.create(make()).outs
    second = provider.create(make()).outs  # nothing remembers the first but its pid file
    assert first is not None
    assert second is not None
    assert daemon.find(first["pid"]) is None
    assert daemon.find(second["pid"]) is not None


@pytest.mark.parametrize("key", ["program", "arguments", "environment", "fingerprint", "ready"])
def test_a_changed_input_asks_for_a_restart(provider: ProcessProvider, make: Make, key: str):
    outs = {**make(), "pid": 1.0, "created": 1.0}
    found = provider.diff("it", outs, {**make(), key: "another"})
    assert found.changes
    assert not found.replaces


def test_an_update_restarts_the_process(provider: ProcessProvider, make: Make):
    first = provider.create(make()).outs
    assert first is not None
    second = provider.update("it", first, make(fingerprint="2")).outs
    assert second is not None
    assert second["pid"] != first["pid"]
    assert daemon.find(first["pid"]) is None
    assert second["fingerprint"] == "2"


def test_a_deleted_process_leaves_its_log_only(
    provider: ProcessProvider, make: Make, tmp_path: Path
):
    outs = provider.create(make()).outs
    assert outs is not None
    provider.delete("it", outs)
    assert daemon.find(outs["pid"]) is None
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["it.log"]
    provider.delete("it", outs)  # twice does no harm


def test_an_early_death_is_told_with_the_end_of_the_log(
    provider: ProcessProvider, make: Make, tmp_path: Path
):
    with pytest.raises(StartError) as caught:
        provider.create(make("print('the disk is full'); raise SystemExit(1)"))
    assert str(caught.value).startswith("it ended as soon as it had started; the end of ")
    assert "    the disk is full" in str(caught.value)
    assert not (tmp_path / "home" / "it.pid").exists()


def test_a_process_that_does_not_get_ready_is_ended(
    provider: ProcessProvider, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(process, "READY_SECONDS", 1.0)
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with pytest.raises(StartError, match="it was not ready within 1 s"):
        provider.create(make(program))
    assert daemon.find(int((tmp_path / "home" / "it.log").read_text())) is None
    assert not (tmp_path / "home" / "it.pid").exists()


def test_a_port_that_somebody_has_is_an_error_and_not_taken_for_ours(
    provider: ProcessProvider, make: Make
):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = float(other.getsockname()[1])
        with pytest.raises(StartError) as caught:
            provider.create(make(ports=[port], ready={"port": port}))
    assert f"it cannot listen on 127.0.0.1:{port:.0f}" in str(caught.value)
    assert "local.ports" in str(caught.value)


def test_a_port_that_listens_is_a_sign(provider: ProcessProvider, make: Make):
    port = free_port()
    serve = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(600)"
    made = provider.create(make(serve, ports=[float(port)], ready={"port": float(port)}))
    assert made.id == "it"


def test_a_url_is_a_sign_only_when_it_answers_200(provider: ProcessProvider, make: Make):
    port = free_port()
    serve = (
        "from http.server import BaseHTTPRequestHandler as H, HTTPServer\n"
        "class Handler(H):\n"
        "    asked = 0\n"
        "    def do_GET(self):\n"
        "        Handler.asked += 1\n"
        "        self.send_response(200 if Handler.asked > 2 else 503)\n"
        "        self.end_headers()\n"
        f"HTTPServer(('127.0.0.1', {port}), Handler).serve_forever()\n"
    )
    made = provider.create(make(serve, ready={"url": f"http://127.0.0.1:{port}/healthz"}))
    assert made.outs is not None
    assert (process.ROOT / "home" / "it.log").read_text().count('" 503 ') == 2


def test_a_process_gets_little_of_our_environment(
    provider: ProcessProvider, make: Make, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of somebody")
    monkeypatch.setenv("TZ", "UTC")
    show = f"import json, os; print(json.dumps(dict(os.environ)), flush=True); {READY}"
    provider.create(make(show))
    printed = (process.ROOT / "home" / "it.log").read_text()
    assert "of somebody" not in printed
    assert '"TZ": "UTC"' in printed
    assert f'"HOME": "{process.ROOT / "home"}"' in printed
