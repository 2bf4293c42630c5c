"""A stack of two real servers, and the command."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nats as nats_client
import pytest
from nats.js.errors import NotFoundError
from typer.testing import CliRunner

from tandem.cli.main import app
from tandem.errors import ErrorClass
from tandem.rule import Rule
from tandem.settings import JetStream, Settings, Site
from tests.conftest import client_of
from tests.servers import Minio, Nats, free_port

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

DOCUMENTS = Rule("documents", "source", ("target",))
LOGS = Rule("logs", "source", ("target",), prefix="logs/", deletes="keep")


@dataclass
class Told:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Cli:
    """A stack's folder, and the command that finds it."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.path = folder / ".tandem" / settings.stack / "tandem.json"
        self.path.parent.mkdir(parents=True)
        self.settings = settings
        self.write()

    def write(self, **changes: Any) -> None:
        self.settings = replace(self.settings, **changes)
        self.path.write_text(self.settings.dump(), encoding="utf-8")

    def __call__(self, *words: str, input: str | bytes | None = None) -> Told:  # noqa: A002 -- CliRunner's own word
        result = CliRunner().invoke(app, words, input=input, prog_name="tandem")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Told(result.exit_code, result.stdout, result.stderr)


@dataclass
class Side:
    """A bucket, through boto3."""

    client: S3Client
    bucket: str

    def put(self, key: str, body: bytes = b"body", **more: Any) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body, **more)

    def get(self, key: str) -> dict[str, Any]:
        held: dict[str, Any] = {**self.client.get_object(Bucket=self.bucket, Key=key)}
        with held["Body"] as body:
            return {**held, "Body": body.read()}

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [one["Key"] for page in pages for one in page.get("Contents", ())]


@pytest.fixture
def source(minio: Minio, make_bucket: Callable[..., str]) -> Iterator[Side]:
    with closing(client_of(minio)) as client:
        yield Side(client, make_bucket(minio, versioning=True))


@pytest.fixture
def target(second_minio: Minio, make_bucket: Callable[..., str]) -> Iterator[Side]:
    with closing(client_of(second_minio)) as client:
        yield Side(client, make_bucket(second_minio, versioning=True))


def site(name: str, server: Minio, bucket: str) -> Site:
    return Site(name, bucket, server.endpoint, server.access_key, server.secret_key)


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A stack on paper only: nothing of it runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TANDEM_SETTINGS", raising=False)
    monkeypatch.delenv("TANDEM_DEBUG", raising=False)
    nowhere = f"http://127.0.0.1:{free_port()}"
    sites = {name: Site(name, f"{name}-bucket", nowhere, "a", "s") for name in ("source", "target")}
    queue = JetStream(f"nats://127.0.0.1:{free_port()}", "user", "password", "paper")
    return Cli(tmp_path, Settings("paper", sites, (DOCUMENTS, LOGS), queue, nowhere))


@pytest.fixture
def cli(paper: Cli, minio: Minio, second_minio: Minio, source: Side, target: Side) -> Cli:
    """A stack of two real servers."""
    paper.write(
        sites={
            "source": site("source", minio, source.bucket),
            "target": site("target", second_minio, target.bucket),
        },
        rules=(DOCUMENTS,),
    )
    return paper


@pytest.fixture
def queued(cli: Cli, nats: Nats) -> Cli:
    """The same with a queue."""
    cli.write(queue=JetStream(nats.url, nats.user, nats.password, "paper"))
    return cli


async def prepare(settings: JetStream) -> None:
    """Make the streams that `pulumi up` makes."""
    client = await nats_client.connect(settings.url, user=settings.user, password=settings.password)
    js = client.jetstream()
    await js.add_stream(name=settings.changes, subjects=[settings.subject("*", "*")])
    for name in ErrorClass:
        await js.add_stream(name=settings.errors(name), subjects=[settings.error_subject(name)])
    await js.add_stream(name=settings.outcomes, subjects=[settings.outcome_subject()])
    await client.close()


async def held(settings: JetStream) -> dict[str, list[bytes]]:
    """Return what lies in each stream of changes and of errors, oldest first."""
    client = await nats_client.connect(settings.url, user=settings.user, password=settings.password)
    js = client.jetstream()
    found: dict[str, list[bytes]] = {}
    for stream in (settings.changes, *(settings.errors(name) for name in ErrorClass)):
        state = (await js.stream_info(stream)).state
        bodies = []
        for number in range(max(state.first_seq, 1), state.last_seq + 1):
            with contextlib.suppress(NotFoundError):
                bodies.append((await js.get_msg(stream, number)).data or b"")
        found[stream] = bodies
    await client.close()
    return found


@pytest.fixture
def streams(queued: Cli) -> Cli:
    """The same with all the streams of a stack."""
    asyncio.run(prepare(queued.settings.queue))
    return queued
