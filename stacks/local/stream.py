"""A JetStream stream."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError
from pulumi import Input, Output, ResourceOptions
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from stacks.local import jetstream
from stacks.local.jetstream import NatsDown
from stacks.local.provider import Properties, Provider, gone, unchanged, warn

Retention = Literal["workqueue", "limits"]


async def establish(props: Mapping[str, Any]) -> None:
    """Make a stream, or bring the one that is there in line.

    It lies in files, and has no limit that would make it drop a message.
    """
    config = StreamConfig(
        name=props["stream"],
        subjects=list(props["subjects"]),
        retention=RetentionPolicy(props["retention"]),
        storage=StorageType.FILE,
        max_msgs=-1,
        max_bytes=-1,
        max_age=0,
    )
    async with jetstream.connect(props["server"]) as js:
        try:
            await js.stream_info(props["stream"])
        except NotFoundError:
            await js.add_stream(config)
        else:
            await js.update_stream(config)


async def look(props: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the subjects and the retention of a stream; None if there is no such stream."""
    async with jetstream.connect(props["server"]) as js:
        try:
            config = (await js.stream_info(props["stream"])).config
        except NotFoundError:
            return None
    return {"subjects": config.subjects, "retention": config.retention}


async def discard(props: Mapping[str, Any]) -> int:
    """Delete a stream, if it is empty or `forced`; return how many messages keep it there."""
    async with jetstream.connect(props["server"]) as js:
        try:
            count = (await js.stream_info(props["stream"])).state.messages
            if props["forced"] or not count:
                await js.delete_stream(props["stream"])
                return 0
        except NotFoundError:
            return 0
    return count


class StreamProvider(Provider):
    """Keep a stream as it should be; do not lose what it holds."""

    inputs = ("server", "stream", "subjects", "retention", "forced")
    # JetStream cannot change what a work queue is.
    replacing = ("stream", "retention")

    def create(self, props: Properties) -> CreateResult:
        """Make the stream, or take over the one that an earlier stack of this name left."""
        asyncio.run(establish(props))
        return CreateResult(props["stream"], dict(props))

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Look at the stream; while NATS is down nothing is known."""
        try:
            found = asyncio.run(look(props))
        except NatsDown:
            return unchanged(id_, props)
        return gone() if found is None else ReadResult(id_, {**props, **found})

    def update(self, _id: str, _olds: Properties, news: Properties) -> UpdateResult:
        """Bring the stream in line."""
        asyncio.run(establish(news))
        return UpdateResult(dict(news))

    def delete(self, _id: str, props: Properties) -> None:
        """Delete the stream, unless it holds work that must not be lost."""
        try:
            kept = asyncio.run(discard(props))
        except NatsDown:
            warn(f"NATS does not answer: {props['stream']} stays or goes with its folder")
            return
        if kept:
            warn(
                f"the stream {props['stream']} holds {kept} messages, and is kept. To have it "
                f"deleted, set forceDestroy to true, `up`, and then `destroy`"
            )


class Stream(Resource, module="local", name="Stream"):
    """A stream in files. On destroy one that holds messages stays, unless `forced`."""

    stream: Output[str]

    def __init__(
        self,
        name: str,
        *,
        server: Input[Mapping[str, Input[str]]],
        stream: str,
        subject: str,
        retention: Retention,
        forced: bool,
        opts: ResourceOptions | None = None,
    ) -> None:
        properties: dict[str, Any] = {
            "server": Output.secret(server),
            "stream": stream,
            "subjects": [subject],
            "retention": retention,
            "forced": forced,
        }
        super().__init__(StreamProvider(), name, properties, opts)
