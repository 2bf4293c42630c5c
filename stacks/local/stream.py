"""A JetStream stream."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError
from pulumi import Input, Output, ResourceOptions
from pulumi.dynamic import Resource

from stacks.local import jetstream
from stacks.local.jetstream import JetStreamProvider, NatsDown
from stacks.local.provider import Properties, warn

Retention = Literal["workqueue", "limits"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Say when a stream drops its oldest messages: never, unless told otherwise.

    `for_subject` counts messages under one subject, `size` is in bytes, `age` in seconds.
    """

    for_subject: int = -1
    size: int = -1
    age: int = 0


UNBOUNDED = Bounds()


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


class StreamProvider(JetStreamProvider):
    """Keep a stream as it should be; do not lose what it holds."""

    inputs = ("server", "stream", "subjects", "retention", "bounds", "forced")
    # JetStream cannot change what a work queue is.
    replacing = ("stream", "retention")
    named = "stream"

    async def establish(self, js: JetStreamContext, props: Properties) -> None:
        """Make the stream, or bring the one that is there in line.

        It lies in files. Beyond its bounds it drops what is oldest; without any it drops nothing.
        """
        bounds = Bounds(**{name: int(value) for name, value in props["bounds"].items()})
        config = StreamConfig(
            name=props["stream"],
            subjects=list(props["subjects"]),
            retention=RetentionPolicy(props["retention"]),
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            max_msgs=-1,
            max_msgs_per_subject=bounds.for_subject,
            max_bytes=bounds.size,
            max_age=bounds.age,
        )
        try:
            await js.stream_info(props["stream"])
        except NotFoundError:
            await js.add_stream(config)
        else:
            await js.update_stream(config)

    async def look(self, js: JetStreamContext, props: Properties) -> Properties | None:
        """Return the stream's subjects, retention and bounds; None if there is no such stream."""
        try:
            config = (await js.stream_info(props["stream"])).config
        except NotFoundError:
            return None
        bounds = Bounds(
            config.max_msgs_per_subject or -1, config.max_bytes or -1, int(config.max_age or 0)
        )
        return {
            "subjects": config.subjects,
            "retention": config.retention,
            "bounds": asdict(bounds),
        }

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
        bounds: Bounds = UNBOUNDED,
        opts: ResourceOptions | None = None,
    ) -> None:
        properties: dict[str, Any] = {
            "server": Output.secret(server),
            "stream": stream,
            "subjects": [subject],
            "retention": retention,
            "bounds": asdict(bounds),
            "forced": forced,
        }
        super().__init__(StreamProvider(), name, properties, opts)
