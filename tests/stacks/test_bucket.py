"""Buckets, versioning and notifications, on a real server."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from stacks.local import minio as minio_server
from stacks.local import notification
from stacks.local.bucket import OWNER_TAG, BucketProvider, BucketTaken
from stacks.local.notification import EVENTS, NotificationProvider
from stacks.local.versioning import VersioningProvider
from tandem.settings import JetStream
from tests.conftest import client_of
from tests.servers import Minio, Nats, free_port

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Properties = dict[str, Any]
MakeBucket = Callable[..., str]


def server_of(server: Minio) -> dict[str, str]:
    return {
        "endpoint": server.endpoint,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        "region": server.region,
    }


@pytest.fixture
def client(minio: Minio) -> Iterator[S3Client]:
    client = client_of(minio)
    yield client
    client.close()


@pytest.fixture
def down(minio: Minio) -> dict[str, str]:
    """Give a server that is not there."""
    return {**server_of(minio), "endpoint": f"http://127.0.0.1:{free_port()}"}


@pytest.fixture
def props(minio: Minio) -> Properties:
    return {
        "server": server_of(minio),
        "host": "minio-source",
        "bucket": f"bucket-{secrets.token_hex(6)}",
        "site": "source",
        "stack": "local",
        "adopt": False,
        "forced": False,
    }


def exists(client: S3Client, bucket: str) -> bool:
    return bucket in {each["Name"] for each in client.list_buckets()["Buckets"]}


def created(provider: Any, props: Properties) -> Properties:
    outs = provider.create(props).outs
    assert isinstance(outs, dict)
    return outs


def fill(client: S3Client, bucket: str) -> None:
    """Leave versions, a delete marker and an unfinished upload in a bucket."""
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for number in range(3):
        client.put_object(Bucket=bucket, Key="a b+c", Body=bytes([number]))
    client.delete_object(Bucket=bucket, Key="a b+c")
    client.create_multipart_upload(Bucket=bucket, Key="unfinished")


class TestBucket:
    provider = BucketProvider()

    def test_it_is_created_with_the_name_of_its_stack(self, client: S3Client, props: Properties):
        outs = created(self.provider, props)
        assert outs["adopted"] is False
        tags = client.get_bucket_tagging(Bucket=props["bucket"])["TagSet"]
        assert tags == [{"Key": OWNER_TAG, "Value": "local"}]
        assert self.provider.read("b", outs).outs == outs
        assert not self.provider.diff("b", outs, props).changes

    def test_an_interrupted_up_finds_its_bucket_again(self, props: Properties):
        created(self.provider, props)
        assert created(self.provider, props)["adopted"] is False

    def test_an_up_cut_short_before_the_tag_finds_its_blank_bucket_again(
        self, client: S3Client, props: Properties
    ):
        client.create_bucket(Bucket=props["bucket"])
        assert created(self.provider, props)["adopted"] is False
        tags = client.get_bucket_tagging(Bucket=props["bucket"])["TagSet"]
        assert tags == [{"Key": OWNER_TAG, "Value": "local"}]

    @pytest.mark.parametrize("owner", [None, "another"])
    def test_a_bucket_of_somebody_else_is_an_error_that_names_the_key(
        self, client: S3Client, props: Properties, owner: str | None
    ):
        if owner:
            created(self.provider, {**props, "stack": owner})
        else:
            client.create_bucket(Bucket=props["bucket"])
            client.put_object(Bucket=props["bucket"], Key="theirs", Body=b"x")
        with pytest.raises(BucketTaken) as caught:
            self.provider.create(props)
        assert props["bucket"] in str(caught.value)
        assert "set sites.source.adopt to true" in str(caught.value)

    def test_an_adopted_bucket_is_left_as_it_is_and_never_deleted(
        self, client: S3Client, props: Properties, capsys: pytest.CaptureFixture[str]
    ):
        client.create_bucket(Bucket=props["bucket"])
        outs = created(self.provider, {**props, "adopt": True, "forced": True})
        assert outs["adopted"] is True
        with pytest.raises(client.exceptions.ClientError, match="NoSuchTagSet"):
            client.get_bucket_tagging(Bucket=props["bucket"])
        self.provider.delete("b", outs)
        assert exists(client, props["bucket"])
        assert "was there before this stack, and stays" in capsys.readouterr().err

    def test_settings_that_change_do_not_change_whose_it_is(self, props: Properties):
        olds = {**props, "adopted": True}
        news = {**props, "forced": True}
        assert self.provider.diff("b", olds, news).changes
        assert not self.provider.diff("b", olds, news).replaces
        assert self.provider.update("b", olds, news).outs == {**news, "adopted": True}

    @pytest.mark.parametrize("key", ["bucket", "host"])
    def test_another_name_or_server_is_another_bucket(self, props: Properties, key: str):
        assert self.provider.diff("b", props, {**props, key: "other"}).replaces == [key]

    def test_one_that_was_deleted_by_hand_is_gone(self, client: S3Client, props: Properties):
        outs = created(self.provider, props)
        client.delete_bucket(Bucket=props["bucket"])
        assert self.provider.read("b", outs).id == ""
        self.provider.delete("b", outs)

    def test_nothing_is_known_of_it_while_its_server_is_down(
        self, props: Properties, down: dict[str, str]
    ):
        outs = {**props, "server": down, "adopted": False}
        read = self.provider.read("b", outs)
        assert (read.id, read.outs) == ("b", outs)

    def test_nothing_is_known_of_it_when_a_stranger_answers(self, props: Properties):
        outs = {**props, "server": {**props["server"], "secret_key": "of somebody else"}}
        assert self.provider.read("b", outs).id == "b"

    def test_an_empty_one_is_deleted(self, client: S3Client, props: Properties):
        self.provider.delete("b", created(self.provider, props))
        assert not exists(client, props["bucket"])

    def test_one_with_data_is_kept_and_told_of(
        self, client: S3Client, props: Properties, capsys: pytest.CaptureFixture[str]
    ):
        outs = created(self.provider, props)
        client.put_object(Bucket=props["bucket"], Key="precious", Body=b"data")
        self.provider.delete("b", outs)
        assert client.get_object(Bucket=props["bucket"], Key="precious")["Body"].read() == b"data"
        told = capsys.readouterr().err
        assert f"the bucket {props['bucket']} on minio-source is not empty, and is kept" in told
        assert "set forceDestroy to true, `up`, and then `destroy`" in told

    def test_force_deletes_versions_markers_and_uploads_too(
        self, client: S3Client, props: Properties
    ):
        outs = created(self.provider, {**props, "forced": True})
        fill(client, props["bucket"])
        self.provider.delete("b", outs)
        assert not exists(client, props["bucket"])

    def test_force_deletes_more_than_a_page(self, client: S3Client, props: Properties):
        outs = created(self.provider, {**props, "forced": True})
        for number in range(1005):
            client.put_object(Bucket=props["bucket"], Key=f"{number:04}")
        self.provider.delete("b", outs)
        assert not exists(client, props["bucket"])

    def test_destroy_goes_on_when_the_server_is_down(
        self, props: Properties, down: dict[str, str], capsys: pytest.CaptureFixture[str]
    ):
        self.provider.delete("b", {**props, "server": down, "adopted": False})
        assert "minio-source does not answer" in capsys.readouterr().err


class TestVersioning:
    provider = VersioningProvider()

    @pytest.fixture
    def props(self, minio: Minio, bucket: str) -> Properties:
        return {"server": server_of(minio), "bucket": bucket, "status": "Enabled"}

    @staticmethod
    def status(client: S3Client, bucket: str) -> str:
        return client.get_bucket_versioning(Bucket=bucket).get("Status", "")

    def test_it_is_turned_on_and_suspended_again(self, client: S3Client, props: Properties):
        outs = created(self.provider, props)
        assert outs["found"] == ""
        assert self.status(client, props["bucket"]) == "Enabled"
        self.provider.delete("v", outs)
        assert self.status(client, props["bucket"]) == "Suspended"

    def test_it_stays_on_where_it_was_on(
        self, minio: Minio, client: S3Client, make_bucket: MakeBucket, props: Properties
    ):
        bucket = make_bucket(minio, versioning=True)
        self.provider.delete("v", created(self.provider, {**props, "bucket": bucket}))
        assert self.status(client, bucket) == "Enabled"

    def test_it_is_turned_on_again_when_somebody_suspends_it(
        self, client: S3Client, props: Properties
    ):
        outs = created(self.provider, props)
        assert not self.provider.diff("v", outs, props).changes
        client.put_bucket_versioning(
            Bucket=props["bucket"], VersioningConfiguration={"Status": "Suspended"}
        )
        seen = self.provider.read("v", outs).outs
        assert seen is not None
        assert self.provider.diff("v", seen, props).changes
        assert self.provider.update("v", seen, props).outs == outs
        assert self.status(client, props["bucket"]) == "Enabled"

    def test_it_goes_with_its_bucket(self, client: S3Client, props: Properties):
        outs = created(self.provider, props)
        client.delete_bucket(Bucket=props["bucket"])
        assert self.provider.read("v", outs).id == ""
        self.provider.delete("v", outs)

    def test_a_server_that_is_down_changes_nothing(self, props: Properties, down: dict[str, str]):
        outs = {**props, "server": down, "found": ""}
        assert self.provider.read("v", outs).outs == outs
        self.provider.delete("v", outs)


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    """Give a MinIO server with targets for `source`, and one more that is not ours."""
    nats = Nats(tmp_path_factory.mktemp("nats"))
    nats.start()
    folder = tmp_path_factory.mktemp("telling")
    queue = JetStream(nats.url, nats.user, nats.password, stack="local")
    address = nats.url.removeprefix("nats://")
    ours = minio_server.targets("source", "minio-source", queue, address, nats.password)
    theirs = minio_server.targets("theirs", "minio-source", queue, address, nats.password)
    environment = {
        key: str(value).replace("{home}", str(folder)) for key, value in {**ours, **theirs}.items()
    }
    server = Minio(folder / "server", environment)
    server.start()
    yield server
    server.kill()
    nats.kill()


class TestNotification:
    provider = NotificationProvider()

    @pytest.fixture
    def client(self, telling: Minio) -> Iterator[S3Client]:
        client = client_of(telling)
        yield client
        client.close()

    @pytest.fixture
    def props(self, telling: Minio, make_bucket: MakeBucket) -> Properties:
        return {
            "server": server_of(telling),
            "bucket": make_bucket(telling),
            "stack": "local",
            "destinations": minio_server.destinations("source"),
        }

    @staticmethod
    def rules(client: S3Client, bucket: str) -> dict[str, tuple[str, frozenset[str]]]:
        found = client.get_bucket_notification_configuration(Bucket=bucket)
        return {
            rule["Id"]: (rule["QueueArn"], frozenset(rule["Events"]))
            for rule in found.get("QueueConfigurations", ())
        }

    @staticmethod
    def add_theirs(client: S3Client, bucket: str) -> dict[str, tuple[str, frozenset[str]]]:
        arn = minio_server.destinations("theirs")["fast"]
        client.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={
                "QueueConfigurations": [
                    {"Id": "theirs", "QueueArn": arn, "Events": ["s3:ObjectCreated:Put"]}
                ]
            },
        )
        return {"theirs": (arn, frozenset({"s3:ObjectCreated:Put"}))}

    OURS = {  # noqa: RUF012 -- never changed
        f"tandem-local-{origin}": (f"arn:minio:sqs::source-{origin}:nats", frozenset(EVENTS))
        for origin in ("fast", "durable")
    }

    def test_both_targets_are_told_and_nothing_is_left(self, client: S3Client, props: Properties):
        outs = created(self.provider, props)
        assert self.rules(client, props["bucket"]) == self.OURS
        assert self.provider.read("n", outs).outs == outs
        assert not self.provider.diff("n", outs, props).changes
        self.provider.delete("n", outs)
        assert self.rules(client, props["bucket"]) == {}

    def test_rules_of_others_stay_as_they_are(self, client: S3Client, props: Properties):
        theirs = self.add_theirs(client, props["bucket"])
        outs = created(self.provider, props)
        assert self.rules(client, props["bucket"]) == self.OURS | theirs
        created(self.provider, props)  # again, as after an interrupted `up`
        assert self.rules(client, props["bucket"]) == self.OURS | theirs
        self.provider.update("n", outs, props)
        assert self.rules(client, props["bucket"]) == self.OURS | theirs
        self.provider.delete("n", outs)
        assert self.rules(client, props["bucket"]) == theirs

    def test_rules_that_were_removed_by_hand_are_gone(self, client: S3Client, props: Properties):
        outs = created(self.provider, props)
        self.add_theirs(client, props["bucket"])
        assert self.provider.read("n", outs).id == ""

    def test_one_of_ours_that_is_missing_is_put_back(self, client: S3Client, props: Properties):
        outs = created(self.provider, props)
        notification.apply(props, notification.wanted_rules(props)[:1])
        seen = self.provider.read("n", outs).outs
        assert seen is not None
        assert self.provider.diff("n", seen, props).changes
        self.provider.update("n", seen, props)
        assert self.rules(client, props["bucket"]) == self.OURS

    def test_one_of_ours_whose_events_were_edited_is_seen(self, props: Properties):
        outs = created(self.provider, props)
        narrowed = [
            {**rule, "Events": ["s3:ObjectCreated:Put"]}
            for rule in notification.wanted_rules(props)
        ]
        notification.apply(props, narrowed)
        assert self.provider.read("n", outs).id == ""

    def test_it_goes_with_its_bucket(self, client: S3Client, props: Properties):
        outs = created(self.provider, props)
        client.delete_bucket(Bucket=props["bucket"])
        assert self.provider.read("n", outs).id == ""
        self.provider.delete("n", outs)

    def test_a_server_that_is_down_changes_nothing(self, props: Properties):
        outs = {
            **props,
            "server": {**props["server"], "endpoint": f"http://127.0.0.1:{free_port()}"},
        }
        assert self.provider.read("n", outs).outs == outs
        self.provider.delete("n", outs)


def test_only_the_durable_target_writes_events_down():
    queue = JetStream("", "tandem", "", stack="local")
    found = minio_server.targets("a-b", "minio-source", queue, "127.0.0.1:4222", "secret")
    assert found["MINIO_NOTIFY_NATS_SUBJECT_a-b-fast"] == "tandem.local.changes.a-b.fast"
    assert found["MINIO_NOTIFY_NATS_QUEUE_DIR_a-b-durable"] == "{home}/minio-source/events"
    assert "MINIO_NOTIFY_NATS_QUEUE_DIR_a-b-fast" not in found
