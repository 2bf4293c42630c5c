"""A run of Pulumi is prepared, watched, and mended after one that was cut short."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tools import project
from tools.pulumi import Pulumi, living_holder
from tools.steps import ToolError

CONFIG = "config:\n  tandem:topology: local\n"
PULUMI = """
if "select" in sys.argv:
    copy = pathlib.Path(sys.argv[sys.argv.index("-C") + 1], "stacks", "Pulumi.local.yaml")
    if "encryptionsalt:" not in copy.read_text():
        copy.write_text(copy.read_text() + "encryptionsalt: v1:x\\n")
elif "export" in sys.argv:
    print(pathlib.Path("export.json").read_text())
elif "refresh" in sys.argv:
    pathlib.Path("export.json").write_text('{"deployment": {}}')
elif "up" in sys.argv:
    sys.exit(int(pathlib.Path("code").read_text()))
"""


@pytest.fixture
def pulumi(machine):
    (machine.root / "stacks").mkdir()
    (machine.root / "stacks" / "Pulumi.local.yaml").write_text(CONFIG)
    (machine.root / "Pulumi.yaml").write_text("name: tandem\n")
    (machine.root / "export.json").write_text('{"deployment": {}}')
    (machine.root / "code").write_text("0")
    variables = {**os.environ, "PULUMI_BACKEND_URL": project.backend()}
    return Pulumi(machine.program("pulumi", PULUMI), "local", variables)


@pytest.fixture
def dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def lock(pid: int, host: str = "") -> "project.Path":
    file = project.STATE / ".pulumi/locks/organization/tandem/local/1.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"pid": pid, "hostname": host or socket.gethostname()}))
    return file


def test_selecting_a_stack_leaves_the_committed_configuration_alone(machine, pulumi):
    pulumi.select()
    assert (machine.root / "stacks" / "Pulumi.local.yaml").read_text() == CONFIG
    pulumi.run("up")
    copy = project.RUNTIME / "local" / "project" / "stacks" / "Pulumi.local.yaml"
    assert f"--stack local --config-file {copy}" in machine.calls("pulumi up")[0]


@pytest.mark.usefixtures("pulumi")
@pytest.mark.parametrize(
    ("secret", "salts"),
    [("", ["encryptionsalt: v1:x"]), ("  a:\n    secure: v1:y\n", ["encryptionsalt: v1:theirs"])],
)
def test_a_salt_comes_along_only_with_the_secrets_that_it_opens(machine, pulumi, secret, salts):
    theirs = f"{CONFIG}{secret}encryptionsalt: v1:theirs\n"
    (machine.root / "stacks" / "Pulumi.local.yaml").write_text(theirs)
    pulumi.select()
    copy = project.RUNTIME / "local" / "project" / "stacks" / "Pulumi.local.yaml"
    lines = copy.read_text().splitlines()
    assert [line for line in lines if line.startswith("encryptionsalt:")] == salts


def test_an_unknown_stack_is_named(machine):
    with pytest.raises(ToolError, match=r"no stack other: .*Pulumi\.other\.yaml does not exist"):
        Pulumi(machine.bin / "pulumi", "other", {}).select()


def test_a_failing_run_tells_its_exit_code(machine, pulumi):
    (machine.root / "code").write_text("7")
    with pytest.raises(ToolError, match="pulumi up failed with exit code 7"):
        pulumi.run("up")


def test_nothing_is_mended_when_nothing_is_broken(machine, pulumi):
    pulumi.settle()
    assert machine.calls("pulumi") == ["pulumi stack export --stack local"]


def test_the_lock_of_a_dead_run_is_cleared(machine, pulumi, dead):
    lock(dead)
    pulumi.settle()
    assert machine.calls("pulumi cancel") == ["pulumi cancel --yes --stack local"]


def test_a_living_run_is_waited_for(machine, pulumi, capsys):
    # A process that is called pulumi, as /proc shows it.
    fake = machine.bin / "pulumi-asleep"
    fake.write_text("#!/bin/sh\nread line\n")
    fake.chmod(0o755)
    process = subprocess.Popen([fake], stdin=subprocess.PIPE)
    file = lock(process.pid)

    def finish() -> None:
        time.sleep(0.5)
        file.unlink()
        process.communicate(b"\n")

    threading.Thread(target=finish).start()
    pulumi.settle()
    assert f"Pulumi (pid {process.pid}) is at work on local" in capsys.readouterr().err
    assert not machine.calls("pulumi cancel")


@pytest.mark.usefixtures("machine")
def test_a_pid_that_another_program_has_now_holds_no_lock():
    assert living_holder(lock(os.getpid())) is None


@pytest.mark.usefixtures("machine")
def test_a_half_written_lock_holds_nothing(dead):
    file = lock(dead)
    file.write_text('{"pid": 1')
    assert living_holder(file) is None


@pytest.mark.usefixtures("machine")
def test_a_lock_from_another_machine_is_never_judged(pulumi):
    lock(1, host="elsewhere")
    with pytest.raises(ToolError, match=r"pid 1\) on elsewhere[\s\S]*pulumi cancel"):
        pulumi.settle()


@pytest.mark.usefixtures("pulumi")
def test_locks_of_the_users_own_backend_are_not_looked_at(machine, dead):
    lock(dead)
    Pulumi(machine.bin / "pulumi", "local", {"PULUMI_BACKEND_URL": "s3://state"}).settle()
    assert not machine.calls("pulumi cancel")


@pytest.mark.parametrize(("kind", "cleared"), [("creating", 1), ("deleting", 0)])
def test_creations_that_were_cut_short_are_forgotten(machine, pulumi, kind, cleared):
    pending = {"deployment": {"pending_operations": [{"type": kind}]}}
    (machine.root / "export.json").write_text(json.dumps(pending))
    pulumi.settle()
    refreshes = machine.calls("pulumi refresh")
    assert len(refreshes) == cleared
    assert all("--clear-pending-creates" in call for call in refreshes)


def test_ctrl_c_lets_pulumi_end_in_order(machine, pulumi):
    machine.program(
        "pulumi",
        "import signal\n"
        "def stop(*_):\n"
        "    pathlib.Path('in-order').touch()\n"
        "    sys.exit(255)\n"
        "signal.signal(signal.SIGINT, stop)\n"
        "pathlib.Path('ready').touch()\n"
        "time.sleep(60)",
    )

    def interrupt() -> None:
        while not (machine.root / "ready").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        pulumi.run("up")
    assert (machine.root / "in-order").exists()
