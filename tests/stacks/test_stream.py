"""Streams and consumers, on a real server."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

import nats as nats_client
import pytest
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from stacks.local import consumer
from stacks.local.consumer import ConsumerProvider
from stacks.local.jetstream import NatsDown, connect
from stacks.local.stream import UNBOUNDED, StreamProvider
from tandem.queues import jetstream as queue
from tests.servers import Nats, free_port

Properties = dict[str, Any]


@pytest.fixture
def server(nats: Nats) -> dict[str, str]:
    return {"url": nats.url, "user": nats.user, "password": nats.password}


@pytest.fixture
def down(server: dict[str, str]) -> dict[str, str]:
    return {**server, "url": f"nats://127.0.0.1:{free_port()}"}


@pytest.fixture
def props(server: dict[str, str]) -> Properties:
    return {
        "server": server,
        "stream": "local-changes",
        "subjects": ["tandem.local.changes.*.*"],
        "retention": "workqueue",
        "bounds": asdict(UNBOUNDED),
        "forced": False,
    }


def created(provider: Any, props: Properties) -> Properties:
    outs = provider.create(props).outs
    assert isinstance(outs, dict)
    return outs


def info(props: Properties) -> Any:
    async def ask() -> Any:
        async with connect(props["server"]) as js:
            return await js.stream_info(props["stream"])

    return asyncio.run(ask())


def publish(props: Properties, count: int = 1) -> None:
    async def send(js: JetStreamContext) -> None:
        for _ in range(count):
            await js.publish("tandem.local.changes.source.fast", b"{}")

    async def run() -> None:
        async with connect(props["server"]) as js:
            await send(js)

    asyncio.run(run())


class TestStream:
    provider = StreamProvider()

    def test_it_keeps_everything_in_files(self, props: Properties):
        outs = created(self.provider, props)
        config = info(props).config
        assert (config.retention, config.storage) == ("workqueue", "file")
        assert (config.max_msgs, config.max_bytes, config.max_age) == (-1, -1, 0)
        assert config.max_msgs_per_subject == -1
        assert self.provider.read("s", outs).outs == outs
        assert not self.provider.diff("s", outs, props).changes

    def test_one_that_is_there_is_brought_in_line(self, props: Properties):
        created(self.provider, {**props, "subjects": ["other"]})
        created(self.provider, props)
        assert info(props).config.subjects == props["subjects"]

    def test_one_that_was_changed_by_hand_is_brought_in_line(self, props: Properties):
        outs = created(self.provider, props)
        created(self.provider, {**props, "subjects": ["other"]})
        seen = self.provider.read("s", outs).outs
        assert seen is not None
        assert self.provider.diff("s", seen, props).changes
        self.provider.update("s", seen, props)
        assert info(props).config.subjects == props["subjects"]

    def test_a_bounded_one_drops_what_is_oldest(self, props: Properties):
        # Numbers come from Pulumi as floats.
        bounds = {"for_subject": 2.0, "size": 1e6, "age": 3600.0}
        bounded = {**props, "retention": "limits", "bounds": bounds}
        outs = created(self.provider, bounded)
        publish(bounded, 3)
        found = info(bounded)
        assert (found.state.messages, found.state.first_seq) == (2, 2)
        assert (found.config.max_bytes, found.config.max_age) == (1_000_000, 3600)
        seen = self.provider.read("s", outs).outs
        assert seen is not None
        assert not self.provider.diff("s", seen, bounded).changes
        wider = {**bounded, "bounds": {**bounds, "for_subject": 3.0}}
        assert self.provider.diff("s", seen, wider).changes
        self.provider.update("s", seen, wider)
        assert info(bounded).config.max_msgs_per_subject == 3

    def test_another_retention_is_another_stream(self, props: Properties):
        found = self.provider.diff("s", props, {**props, "retention": "limits"})
        assert found.replaces == ["retention"]
        assert found.delete_before_replace

    def test_an_empty_one_is_deleted(self, props: Properties):
        outs = created(self.provider, props)
        self.provider.delete("s", outs)
        with pytest.raises(NotFoundError):
            info(props)
        assert self.provider.read("s", outs).id == ""
        self.provider.delete("s", outs)

    def test_one_with_messages_is_kept_and_told_of(
        self, props: Properties, capsys: pytest.CaptureFixture[str]
    ):
        outs = created(self.provider, props)
        publish(props, 3)
        self.provider.delete("s", outs)
        assert info(props).state.messages == 3
        assert "local-changes holds 3 messages, and is kept" in capsys.readouterr().err

    def test_force_deletes_messages(self, props: Properties):
        outs = created(self.provider, {**props, "forced": True})
        publish(props)
        self.provider.delete("s", outs)
        with pytest.raises(NotFoundError):
            info(props)

    def test_a_server_that_is_down_changes_nothing(
        self, props: Properties, down: dict[str, str], capsys: pytest.CaptureFixture[str]
    ):
        outs = {**props, "server": down}
        assert self.provider.read("s", outs).outs == outs
        self.provider.delete("s", outs)
        assert "NATS does not answer" in capsys.readouterr().err
        with pytest.raises(NatsDown, match=f"nothing listens on {down['url']}"):
            self.provider.create(outs)


def test_a_wrong_password_is_told_and_not_shown(server: dict[str, str]):
    with pytest.raises(NatsDown) as caught:
        asyncio.run(ask_with({**server, "password": "not-the-password"}))
    assert "cannot be reached" in str(caught.value)
    assert "not-the-password" not in str(caught.value)


async def ask_with(server: dict[str, str]) -> None:
    async with connect(server) as js:
        await js.account_info()


class TestConsumer:
    provider = ConsumerProvider()

    @pytest.fixture
    def consumer_props(self, props: Properties) -> Properties:
        StreamProvider().create(props)
        return {
            "server": props["server"],
            "stream": props["stream"],
            "consumer": "workers",
            "ack_seconds": consumer.ACK_SECONDS,
            "most_pending": consumer.MOST_PENDING,
        }

    def test_its_lease_is_the_one_that_workers_expect(self):
        assert consumer.ACK_SECONDS == queue.LEASE_SECONDS

    def test_it_waits_for_acknowledgements_and_never_gives_up(self, consumer_props: Properties):
        outs = created(self.provider, consumer_props)

        async def ask() -> Any:
            async with connect(consumer_props["server"]) as js:
                return await js.consumer_info("local-changes", "workers")

        config = asyncio.run(ask()).config
        assert (config.ack_policy, config.ack_wait, config.max_deliver) == ("explicit", 10, -1)
        assert (config.durable_name, config.max_ack_pending) == ("workers", 100_000)
        assert self.provider.read("c", outs).outs == outs
        assert not self.provider.diff("c", outs, consumer_props).changes

    def test_one_that_was_changed_by_hand_is_brought_in_line(self, consumer_props: Properties):
        outs = created(self.provider, consumer_props)
        created(self.provider, {**consumer_props, "most_pending": 5})
        seen = self.provider.read("c", outs).outs
        assert seen is not None
        assert self.provider.diff("c", seen, consumer_props).changes
        self.provider.update("c", seen, consumer_props)
        assert self.provider.read("c", outs).outs == outs

    def test_it_is_deleted_and_the_messages_stay(
        self, props: Properties, consumer_props: Properties
    ):
        outs = created(self.provider, consumer_props)
        publish(props)
        self.provider.delete("c", outs)
        assert self.provider.read("c", outs).id == ""
        assert info(props).state.messages == 1
        self.provider.delete("c", outs)

    def test_workers_can_bind_to_it(self, nats: Nats, consumer_props: Properties):
        created(self.provider, consumer_props)

        async def pull() -> bytes:
            client = await nats_client.connect(nats.url, user=nats.user, password=nats.password)
            js = client.jetstream()
            await js.publish("tandem.local.changes.source.fast", b"hello")
            bound = await js.pull_subscribe_bind(durable="workers", stream="local-changes")
            (message,) = await bound.fetch(1, timeout=5)
            await message.ack_sync()
            await client.close()
            return message.data

        assert asyncio.run(pull()) == b"hello"

    def test_a_server_that_is_down_changes_nothing(
        self, consumer_props: Properties, down: dict[str, str]
    ):
        outs = {**consumer_props, "server": down}
        assert self.provider.read("c", outs).outs == outs
        self.provider.delete("c", outs)
