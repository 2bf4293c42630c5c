"""`tandem ls`, `tandem put` and `tandem rm-bucket` on two real servers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tandem.attempt import Attempt
from tandem.change import Change
from tandem.cli import upload
from tandem.cli.stack import Stack
from tandem.stores.s3 import S3Store
from tests.cli.conftest import DOCUMENTS, Cli, Side

MIB = 1024 * 1024


def test_ls_without_a_site_lists_the_sites(paper: Cli):
    endpoint = paper.settings.sites["source"].endpoint
    assert paper("ls").lines == [
        "SITE    BUCKET         ENDPOINT",
        f"source  source-bucket  {endpoint}",
        f"target  target-bucket  {endpoint}",
    ]
    sites = paper("ls", "--json").json["sites"]
    assert sites[0] == {"name": "source", "bucket": "source-bucket", "endpoint": endpoint}


def test_no_secret_is_ever_listed(paper: Cli):
    paper.write(queue=paper.settings.queue)
    for words in (["ls"], ["ls", "--json"]):
        assert "secret" not in paper(*words).out


def test_ls_lists_objects_under_a_prefix_up_to_a_limit(cli: Cli, source: Side):
    source.put("a", b"x" * 2048)
    source.put("logs/1", b"12345")
    source.put("logs/2\n", b"")
    told = cli("ls", "source")
    assert [line[:7] for line in told.lines] == ["2.0 KiB", "    5 B", "    0 B"]
    assert [line.split("Z  ")[1] for line in told.lines] == ["a", "logs/1", "logs/2\\n"]
    under = cli("ls", "source:logs/", "--limit", "1")
    assert [line.split("Z  ")[1] for line in under.lines] == ["logs/1"]
    assert under.err == "there are more than 1 (--limit 0 lists them all)\n"
    found = cli("ls", "source:logs/2", "--json").json
    assert (found["objects"][0]["key"], found["more"]) == ("logs/2\n", False)
    assert cli("ls", "target").out == "no objects\n"


def test_put_keeps_content_type_metadata_and_tags(cli: Cli, source: Side, tmp_path: Path):
    file = tmp_path / "page"
    file.write_bytes(b"<p>")
    told = cli(
        *("put", "source", "page.html", str(file)),
        *("--metadata", "Owner=ada", "--tag", "keep=a=b", "--json"),
    )
    assert told.json | {"seconds": 0} == {
        "site": "source",
        "key": "page.html",
        "size": 3,
        "seconds": 0,
        "arrivals": [],
    }
    held = source.get("page.html")
    assert (held["ContentType"], held["Metadata"]) == ("text/html", {"owner": "ada"})
    tags = source.client.get_object_tagging(Bucket=source.bucket, Key="page.html")["TagSet"]
    assert tags == [{"Key": "keep", "Value": "a=b"}]


def test_put_reads_standard_input(cli: Cli, source: Side):
    for words in ([], ["-"]):
        assert cli("put", "source", "k", *words, "--content-type", "a/b", input=b"hi").code == 0
        held = source.get("k")
        assert (held["Body"], held["ContentType"]) == (b"hi", "a/b")


@pytest.mark.parametrize("size", [upload.PART - 1, upload.PART, 3 * upload.PART + 5])
def test_put_sends_large_objects_in_parts(cli: Cli, source: Side, tmp_path: Path, size: int):
    file = tmp_path / "large"
    file.write_bytes(bytes(range(251)) * (size // 251) + b"!" * (size % 251))
    assert cli("put", "source", "large", str(file), "--tag", "a=b").code == 0
    held = source.get("large")
    assert held["Body"] == file.read_bytes()
    assert ("-" in held["ETag"]) == (size >= upload.PART)
    assert held["TagCount"] == 1


def test_a_put_that_fails_leaves_no_upload_behind(
    cli: Cli, source: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    dropped: list[str] = []
    abort = S3Store.abort_upload

    async def full(*_: Any) -> None:
        raise OSError("disk full")

    async def noted(self, key: str, upload_id: str) -> None:
        dropped.append(upload_id)
        await abort(self, key, upload_id)

    monkeypatch.setattr(S3Store, "upload_part", full)
    monkeypatch.setattr(S3Store, "abort_upload", noted)
    file = tmp_path / "large"
    file.write_bytes(bytes(upload.PART + 1))
    with pytest.raises(OSError, match="disk full"):
        cli("put", "source", "large", str(file))
    assert len(dropped) == 1
    left = source.client.list_multipart_uploads(Bucket=source.bucket, Prefix="large")
    assert "Uploads" not in left
    assert source.keys() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["put", "elsewhere", "k"], "there is no site 'elsewhere' in this stack: its sites are"),
        (["put", "source", "k", "no-such-file"], "cannot read no-such-file: No such file"),
        (["put", "source", "k", "--tag", "loose"], "--tag 'loose' is not NAME=VALUE"),
        (["put", "source", "k", "--metadata", "=v"], "--metadata '=v' is not NAME=VALUE"),
        (["ls", "elsewhere:x"], "there is no site 'elsewhere'"),
        (["rm-bucket", "elsewhere"], "there is no site 'elsewhere'"),
        (["sync", "nothing"], "there is no rule 'nothing' in this stack: its rules are documents"),
        (["verify", "--target", "source"], "source is not a target of documents, logs"),
        (["errors", "--rule", "nothing"], "there is no rule 'nothing'"),
        (["redrive", "--older-than", "soon"], "--older-than: 'soon' is no duration"),
        (["rm-bucket", "source", "--yes"], "source-bucket: Could not connect"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(paper: Cli, words: list[str], message: str):
    told = paper(*words)
    assert told.code == 2
    assert told.err.startswith(f"tandem: {message}")
    assert told.err.count("\n") == 1
    assert told.out == ""


@contextmanager
def worker(cli: Cli, delay: float = 0.0) -> Iterator[None]:
    """Converge `k` of `documents` again and again, and tell of it, as a worker would."""
    stop = threading.Event()

    async def work() -> None:
        stack = Stack(cli.path)
        change = Change("source", "k")
        async with stack.engine([(DOCUMENTS, "target")]) as engine, stack.queue() as queue:
            await asyncio.sleep(delay)
            while not stop.is_set():
                outcome = await engine.converge(DOCUMENTS, "target", change)
                await queue.publish_outcome(
                    Attempt("w", "documents", "target", change, 1, outcome.at, outcome)
                )
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=asyncio.run, args=(work(),))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_put_waits_until_the_object_is_at_the_target(queued: Cli, target: Side):
    with worker(queued):
        told = queued("put", "source", "k", "--wait", input=b"hello")
        again = queued("put", "source", "k", "--wait", "--json", input=b"other").json
    assert told.code == 0
    put, arrived = told.lines
    assert put.startswith("source:k: 5 B put in ")
    assert arrived.startswith("source:k → target:k after ")
    assert target.get("k")["Body"] == b"other"
    (arrival,) = again["arrivals"]
    assert arrival | {"seconds": 0} == {
        "rule": "documents",
        "target": "target",
        "key": "k",
        "seconds": 0,
        "level": True,
    }
    assert 0 <= arrival["seconds"] < 10


def test_put_says_so_when_the_object_does_not_arrive_in_time(queued: Cli):
    started = time.monotonic()
    told = queued("put", "source", "k", "--wait", "--timeout", "0.3", input=b"hello")
    assert time.monotonic() - started < 30
    assert told.code == 1
    assert told.lines[1] == (
        "source:k → target:k is not level after 300.0 ms: "
        "`tandem status` and `tandem errors` tell more"
    )


def test_put_waits_for_nothing_where_no_rule_carries_the_key(cli: Cli):
    told = cli("put", "target", "k", "--wait", input=b"")
    assert told.code == 0
    assert told.err == "no rule carries k from target, so there is nothing to wait for\n"


def test_put_does_not_put_what_it_could_not_watch(cli: Cli, source: Side):
    told = cli("put", "source", "k", "--wait", input=b"")
    assert told.code == 2
    assert told.err.startswith(f"tandem: NATS at {cli.settings.queue.url} cannot be reached")
    assert source.keys() == []


def fill(side: Side) -> None:
    """Leave versions, a delete marker, odd keys and an unfinished upload."""
    for number in range(3):
        side.put("k", b"%d" % number)
    side.put("tab\there")
    side.put("a&b<c>+ %41")
    side.put("gone")
    side.delete("gone")
    side.client.create_multipart_upload(Bucket=side.bucket, Key="half")


def contents(side: Side) -> list[Any]:
    """Return all versions, delete markers and unfinished uploads of a bucket."""
    found = side.client.list_object_versions(Bucket=side.bucket)
    uploads = side.client.list_multipart_uploads(Bucket=side.bucket, Prefix="half")
    return [found["Versions"], found["DeleteMarkers"], uploads.get("Uploads")]


def exists(side: Side) -> bool:
    try:
        side.client.head_bucket(Bucket=side.bucket)
    except ClientError:
        return False
    return True


def test_rm_bucket_deletes_the_bucket_with_everything_in_it(cli: Cli, target: Side):
    fill(target)
    before = contents(target)
    counted = cli("rm-bucket", "target", "--dry-run", "--json").json
    assert (counted["versions"], counted["delete_markers"]) == (6, 1)
    assert contents(target) == before
    told = cli("rm-bucket", "target", "--yes")
    assert told.code == 0
    assert told.out.startswith(f"{target.bucket}: 6 versions, 1 delete marker, ")
    assert told.out.endswith("deleted, and the bucket with them\n")
    assert not exists(target)
    again = cli("rm-bucket", "target", "--yes")
    assert again.code == 2
    assert "NoSuchBucket" in again.err


def test_rm_bucket_empties_more_than_a_page(cli: Cli, target: Side):
    for number in range(1005):
        target.put(f"{number:04}", b"")
    assert cli("rm-bucket", "target", "--yes").out.startswith(f"{target.bucket}: 1,005 versions")
    assert not exists(target)


@pytest.mark.parametrize("typed", ["yes", "", None])
def test_rm_bucket_asks_for_the_name_of_the_bucket(cli: Cli, target: Side, typed: str | None):
    told = cli("rm-bucket", "target", input=None if typed is None else f"{typed}\n")
    assert told.code == 2
    assert told.out == ""
    assert exists(target)
    assert cli("rm-bucket", "target", input=f"{target.bucket}\n").code == 0
    assert not exists(target)
