"""Ports, credentials, files and the folder of a stack."""

from __future__ import annotations

import re
import socket
import stat
from pathlib import Path

import pytest

from stacks.local import folder, port, private_file
from stacks.local.credential import CredentialProvider
from stacks.local.folder import STREAMS, FolderProvider, bucket_data, sweep
from stacks.local.paths import absolute
from stacks.local.port import PortProvider
from stacks.local.private_file import PrivateFileProvider, write_private
from stacks.local.replicator import code_digest


def test_a_port_is_free_and_given_once():
    ports = [PortProvider().create({}).outs for _ in range(20)]
    numbers = {outs["port"] for outs in ports if outs}
    assert len(numbers) == 20
    assert all(port.is_free(number) for number in numbers)
    assert all(port.FIRST <= number <= port.LAST for number in numbers)


def test_a_port_that_listens_is_not_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not port.is_free(server.getsockname()[1])


def test_a_port_stays_unless_another_is_asked_for():
    provider = PortProvider()
    assert provider.create({"wanted": 9000.0}).outs == {"port": 9000}
    assert not provider.diff("x", {"port": 9000.0}, {}).changes
    assert not provider.diff("x", {"port": 9000.0}, {"wanted": 9000.0}).changes
    assert provider.diff("x", {"port": 9000.0}, {"wanted": 9001.0}).changes
    assert provider.update("x", {"port": 9000.0}, {"wanted": 9001.0}).outs == {"port": 9001}


def test_no_free_port_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(port, "is_free", lambda _port: False)
    with pytest.raises(RuntimeError, match=r"no port of 127\.0\.0\.1 from 20000 to 32767 is free"):
        port.find_free()


def test_a_credential_is_long_plain_and_never_the_same():
    made = [CredentialProvider().create({}).outs for _ in range(3)]
    values = {outs["value"] for outs in made if outs}
    assert len(values) == 3
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in values)
    assert not CredentialProvider().diff("x", {"value": "a"}, {}).changes


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (private_file, folder):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def test_a_private_file_is_for_its_owner_only_and_leaves_no_draft(root: Path):
    path = root / "deep" / "file"
    write_private(path, "one")
    write_private(path, "two")
    assert path.read_text() == "two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_private_file_that_cannot_be_put_in_place_leaves_no_draft(root: Path):
    (root / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        write_private(root / "taken", "text")
    assert [path.name for path in root.iterdir()] == ["taken"]


def test_a_private_file_is_watched(root: Path):
    provider, news = PrivateFileProvider(), {"path": "a/file", "content": "text"}
    outs = provider.create(news).outs
    assert outs is not None
    assert not provider.diff("a/file", provider.read("a/file", outs).outs or {}, news).changes

    (root / "a" / "file").write_text("edited")
    assert provider.diff("a/file", provider.read("a/file", outs).outs or {}, news).changes
    provider.update("a/file", outs, news)
    assert (root / "a" / "file").read_text() == "text"

    (root / "a" / "file").chmod(0o644)
    assert provider.diff("a/file", provider.read("a/file", outs).outs or {}, news).changes

    provider.delete("a/file", outs)
    assert not (root / "a" / "file").exists()
    assert provider.read("a/file", outs).id == ""
    provider.delete("a/file", outs)


def fill(home: Path, *names: str) -> None:
    """Make a file, with folders around it, for each name."""
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("x")


RUNTIME = (
    "nats.log",
    "nats.log.1",
    "worker-0.ready",
    "metrics/counter.db",
    "sync-a-b.json",
    "reconcile.json",
    "sweep.json",
    "sweep.lock",
)
SOURCE = ("minio-source/data/.minio.sys/format.json", "minio-source/data/ours/key/xl.meta")
STREAM = "nats/jetstream/$G/streams/local-changes/msgs/1.blk"


def test_a_folder_without_data_goes(tmp_path: Path):
    home = tmp_path / "home"
    fill(home, *RUNTIME, SOURCE[0], "nats/jetstream/$G/meta.inf")
    assert sweep(home, []) == []
    assert not home.exists()


def test_a_folder_that_is_gone_already_is_no_error(tmp_path: Path):
    assert sweep(tmp_path / "home", []) == []


def test_servers_that_hold_data_stay_whole_and_the_rest_goes(tmp_path: Path):
    home = tmp_path / "home"
    fill(home, *RUNTIME, *SOURCE, "minio-target/data/.minio.sys/format.json", STREAM)
    assert sweep(home, []) == ["minio-source/data/ours", "nats/jetstream/$G/streams/local-changes"]
    assert sorted(path.name for path in home.iterdir()) == ["minio-source", "nats"]
    assert all((home / name).exists() for name in SOURCE)


def test_data_that_may_go_does(tmp_path: Path):
    home = tmp_path / "home"
    fill(home, *SOURCE, STREAM)
    assert sweep(home, [STREAMS, bucket_data("minio-source", "ours")]) == []
    assert not home.exists()


def test_data_of_others_keeps_its_server(tmp_path: Path):
    home = tmp_path / "home"
    fill(home, *SOURCE, "minio-source/data/theirs/key/xl.meta")
    assert sweep(home, [bucket_data("minio-source", "ours")]) == ["minio-source/data/theirs"]
    assert all((home / name).exists() for name in SOURCE)


def test_what_is_not_of_the_stacks_processes_is_left_alone(tmp_path: Path):
    home = tmp_path / "home"
    fill(home, "notes.txt", "project/Pulumi.yaml", *RUNTIME)
    sweep(home, [])
    assert sorted(path.name for path in home.iterdir()) == ["notes.txt", "project"]


def test_a_stacks_folder_is_for_its_owner_only(root: Path, capsys: pytest.CaptureFixture[str]):
    provider, news = FolderProvider(), {"path": ".tandem/local", "disposable": []}
    outs = provider.create(news).outs
    assert outs is not None
    home = root / ".tandem" / "local"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert provider.read("x", outs).id == "x"
    assert provider.diff("x", outs, {**news, "disposable": ["a"]}).changes

    fill(home, *SOURCE)
    provider.delete("x", outs)
    assert "warning: kept in .tandem/local: minio-source/data/ours." in capsys.readouterr().err

    provider.delete("x", {**outs, "disposable": ["minio-source/data/ours"]})
    assert not home.exists()
    assert provider.read("x", outs).id == ""


def test_paths_in_a_command_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("stacks.local.paths.ROOT", tmp_path)
    told = absolute("--config={home}/nats.conf:{project}/src", ".tandem/local")
    assert told == f"--config={tmp_path}/.tandem/local/nats.conf:{tmp_path}/src"


def test_the_digest_of_the_code_follows_names_and_contents(tmp_path: Path):
    fill(tmp_path, "requirements.txt", "function_src/a.py", "function_src/b/c.py")
    first = code_digest(tmp_path)
    fill(tmp_path, "function_src/notes.md", "function_src/__pycache__/a.pyc")
    assert code_digest(tmp_path) == first
    (tmp_path / "function_src" / "a.py").write_text("y")
    second = code_digest(tmp_path)
    (tmp_path / "function_src" / "a.py").rename(tmp_path / "function_src" / "d.py")
    third = code_digest(tmp_path)
    (tmp_path / "requirements.txt").write_text("aiohttp")
    assert len({first, second, third, code_digest(tmp_path)}) == 4
