"""The stack `local` by the real Pulumi engine: up, damage, repair, and nothing left behind."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import client_of
from tests.stack import Stack
from tools import sessions

pytestmark = pytest.mark.timeout(1800)

PROCESSES = {"minio-source", "minio-target", "nats", "service", "worker-0", "worker-1"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Give a stack that is up; each test leaves it up."""
    stack = Stack(tmp_path_factory.mktemp("local"))
    try:
        stack.up()
        yield stack
    finally:
        stack.destroy()


@pytest.fixture
def another(tmp_path: Path) -> Iterator[Stack]:
    """Give a stack that was never up; it is destroyed whatever happens."""
    stack = Stack(tmp_path)
    try:
        yield stack
    finally:
        stack.destroy()


def pids(stack: Stack) -> dict[str, int]:
    return {name: stack.pid(name) for name in PROCESSES}


def assert_no_changes(stack: Stack) -> None:
    stack.pulumi("preview", "--expect-no-changes", "--stack", stack.name)


def ports(stack: Stack) -> set[int]:
    """Return the ports that the stack listens on, after checking that none is open to others."""
    found = set()
    for process in stack.processes():
        for connection in process.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip in {"127.0.0.1", "::1"}
                found.add(connection.laddr.port)
    return found


def test_an_up_leaves_nothing_to_do(stack: Stack):
    assert_no_changes(stack)
    before = pids(stack)
    stack.up()
    assert pids(stack) == before


def test_every_process_is_up_and_listens_on_this_machine_only(stack: Stack):
    alive = {process.pid for process in stack.processes()}
    assert set(pids(stack).values()) <= alive
    assert len(ports(stack)) == 6  # two of each MinIO, NATS, the service


def test_credentials_are_in_no_log_and_not_in_the_clear_in_the_state(stack: Stack):
    sites, queue = stack.settings.sites, stack.settings.queue
    passwords = {*(site.secret_key for site in sites.values()), queue.password}
    assert len(passwords) == 3
    told = stack.pulumi("stack", "export", "--stack", stack.name)
    told += stack.pulumi("stack", "output", "--stack", stack.name)
    told += "".join(path.read_text(errors="replace") for path in stack.home.glob("*.log*"))
    assert not [password for password in passwords if password in told]
    for name in ("tandem.json", "nats.conf"):
        assert stat.S_IMODE((stack.home / name).stat().st_mode) == 0o600


def test_outputs_tell_where_everything_is(stack: Stack):
    shown = ("stack", "output", "--json", "--show-secrets", "--stack", stack.name)
    outputs = json.loads(stack.run("pulumi", *shown).stdout)
    source = stack.settings.sites["source"]
    assert outputs["sourceEndpoint"] == source.endpoint
    assert outputs["sourceCredentials"]["secretKey"] == source.secret_key
    assert outputs["serviceUrl"] == stack.settings.service_url
    assert outputs["natsUrl"] == stack.settings.queue.url
    assert outputs["settingsFile"] == ".tandem/local/tandem.json"
    assert outputs["buckets"] == {"source": "local-source", "target": "local-target"}


def test_a_bucket_is_set_up_by_one_resource_after_the_other(stack: Stack):
    # MinIO loses one of two settings of a bucket that are made at the same moment.
    exported = json.loads(stack.run("pulumi", "stack", "export", "--stack", stack.name).stdout)
    found = {each["urn"].rpartition("::")[2]: each for each in exported["deployment"]["resources"]}
    notification, versioning = found["source-notification"], found["source-versioning"]
    assert versioning["urn"] in notification["dependencies"]
    assert versioning["parent"] == notification["parent"] == found["source-bucket"]["urn"]


@pytest.mark.parametrize("process", ["worker-0", "nats", "minio-source"])
def test_a_killed_process_is_seen_and_it_alone_is_started_again(stack: Stack, process: str):
    before = pids(stack)
    stack.kill(process)
    told = stack.pulumi("refresh", "--yes", "--skip-preview", "--stack", stack.name)
    assert "1 deleted" in told
    assert f"Process {process} delet" in told
    told = stack.pulumi("up", "--yes", "--skip-preview", "--stack", stack.name)
    assert "1 created" in told
    after = pids(stack)
    assert {name for name in PROCESSES if after[name] != before[name]} == {process}
    assert_no_changes(stack)


def test_a_rule_that_was_removed_by_hand_is_put_back(stack: Stack):
    client = client_of(stack.server("source"))
    client.put_bucket_notification_configuration(
        Bucket="local-source", NotificationConfiguration={}
    )
    before = pids(stack)
    stack.up()
    found = client.get_bucket_notification_configuration(Bucket="local-source")
    client.close()
    assert len(found["QueueConfigurations"]) == 2
    assert pids(stack) == before


def test_changed_code_and_settings_restart_what_reads_them(stack: Stack):
    before = pids(stack)
    with (stack.folder / "function_src" / "tandem" / "worker.py").open("a") as file:
        file.write("\n# Another line.\n")
    stack.up()
    after = pids(stack)
    changed = {name for name in PROCESSES if after[name] != before[name]}
    assert changed == {"service", "worker-0", "worker-1"}


def interrupt(stack: Stack, line: str) -> None:
    """Kill an `up` when it says `line`, and end what it leaves, as `make up` would."""
    run = subprocess.Popen(
        ["pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", stack.name],
        cwd=stack.folder,
        env=stack.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    session = stack.folder / "session"
    sessions.record(session, run.pid)
    assert run.stdout is not None
    assert any(line in told for told in run.stdout)
    run.kill()
    run.stdout.close()
    run.wait()
    sessions.settle(session)
    stack.pulumi("cancel", "--yes", "--stack", stack.name, check=False)


@pytest.mark.parametrize(
    "line",
    ["Process minio-target creating", "Stream changes creating", "Bucket source-bucket creating"],
)
def test_an_up_that_was_killed_can_be_run_again(another: Stack, line: str):
    interrupt(another, line)
    refresh = ("refresh", "--yes", "--skip-preview", "--clear-pending-creates")
    another.pulumi(*refresh, "--stack", another.name)
    another.up()
    assert_no_changes(another)
    servers = {each.pid for each in another.processes() if each.name() == "minio"}
    assert servers == {another.pid("minio-source"), another.pid("minio-target")}


def test_destroy_leaves_no_process_no_port_and_no_file(another: Stack):
    stack = another
    stack.up()
    client = client_of(stack.server("source"))
    client.put_object(Bucket="local-source", Key="k", Body=b"x" * 1000)
    client.close()
    used = ports(stack)
    stack.kill("minio-target")  # a destroy does not depend on everything being well
    stack.destroy()
    assert stack.processes() == []
    for port in used:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert not stack.home.exists()


def test_without_force_data_outlive_the_stack_and_are_found_again(another: Stack):
    stack = another
    stack.pulumi("config", "set", "forceDestroy", "false", "--stack", "local")
    stack.up()
    client = client_of(stack.server("source"))
    client.put_object(Bucket="local-source", Key="precious", Body=b"data")
    client.close()
    client = client_of(stack.server("target"))
    client.get_waiter("object_exists").wait(
        Bucket="local-target", Key="precious", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    client.close()
    told = stack.destroy()
    assert "the bucket local-source on minio-source is not empty, and is kept" in told
    assert "kept in .tandem/local: minio-source/data/local-source" in told
    assert stack.processes() == []
    # A change that was told twice may still lie in the work queue, which is then kept as well.
    kept = {path.name for path in stack.home.iterdir()}
    assert kept - {"nats"} == {"minio-source", "minio-target"}

    stack.up()
    client = client_of(stack.server("target"))
    assert client.get_object(Bucket="local-target", Key="precious")["Body"].read() == b"data"
    client.close()
    stack.pulumi("config", "set", "forceDestroy", "true", "--stack", "local")
    stack.up()
    stack.destroy()
    assert not stack.home.exists()


def test_the_providers_need_nothing_that_the_program_set_up():
    done = subprocess.run(
        [sys.executable, "-c", "from stacks.local.process import ProcessProvider as P; P()"],
        cwd=Path(__file__).parents[2],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
