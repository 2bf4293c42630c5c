"""`tandem sweep` on two real servers."""

from __future__ import annotations

from tandem.ledger import HANDED_ON, MARKER, MARKER_SIZE
from tests.cli.conftest import Cli, Side

MIB = 1024 * 1024


def leave_behind(target: Side, key: str, *, ours: bool = True) -> str:
    """Begin an upload as a copy does, and leave it; return its id."""
    at = {"Bucket": target.bucket, "Key": key}
    upload = target.client.create_multipart_upload(**at)["UploadId"]
    bodies = {1: b"x" * 5 * MIB}
    if ours:
        bodies |= {10_000: MARKER.ljust(MARKER_SIZE, b"0"), 9_999: HANDED_ON}
    for number, body in bodies.items():
        target.client.upload_part(**at, UploadId=upload, PartNumber=number, Body=body)
    return upload


def uploads(target: Side) -> list[str]:
    told = target.client.list_multipart_uploads(Bucket=target.bucket)
    return [one["Key"] for one in told.get("Uploads", [])]


def test_sweep_aborts_what_nobody_will_go_on_with(cli: Cli, source: Side, target: Side):
    source.put("wanted")
    gone = leave_behind(target, "gone")
    leave_behind(target, "wanted")
    leave_behind(target, "theirs", ours=False)
    assert cli("sweep").lines == ["0 uploads aborted (0 B), 0 kept"]
    rehearsed = cli("sweep", "--older-than", "0s", "--dry-run")
    assert [line.split()[:3] for line in rehearsed.lines[1:3]] == [
        ["abort", "target", "gone"],
        ["keep", "target", "wanted"],
    ]
    assert rehearsed.lines[3] == "1 upload would be aborted (5.0 MiB), 1 kept"
    assert sorted(uploads(target)) == ["gone", "theirs", "wanted"]
    told = cli("sweep", "--older-than", "0s", "--json").json
    assert told["dry_run"] is False
    (aborted,) = [one for one in told["uploads"] if one["what"] == "abort"]
    assert (aborted["upload"], aborted["why"]) == (gone, "on neither side")
    assert (aborted["parts"], aborted["size"]) == (1, 5 * MIB)
    assert sorted(uploads(target)) == ["theirs", "wanted"]


def test_an_age_that_is_none_is_refused(cli: Cli):
    told = cli("sweep", "--older-than", "soon")
    assert told.code == 2
    assert told.err.startswith("tandem: --older-than: ")
    assert len(told.err.splitlines()) == 1
