"""Fixtures that give real servers."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from hypothesis import settings

from tests.servers import Minio, Nats, Versitygw

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# Speed is judged by bench/, never by a test.
settings.register_profile("tandem", deadline=None)
settings.load_profile("tandem")


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    """Give a MinIO server; a test that kills it starts it again."""
    server = Minio(tmp_path_factory.mktemp("minio"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def second_minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    """Give another MinIO server."""
    server = Minio(tmp_path_factory.mktemp("second-minio"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versitygw]:
    """Give a versitygw server: S3 by other hands than MinIO's."""
    server = Versitygw(tmp_path_factory.mktemp("versitygw"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    """Give a NATS server with JetStream, empty."""
    server = Nats(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.kill()


def client_of(server: Minio | Versitygw) -> S3Client:
    """Return a boto3 client of a server: the independent reader and writer of the tests."""
    config: Any = Config(
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=32,
    )
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
        config=config,
    )


def bucket_on(server: Minio | Versitygw, *, versioning: bool = False) -> str:
    """Make a fresh bucket on a server and return its name."""
    name = f"bucket-{secrets.token_hex(6)}"
    client = client_of(server)
    client.create_bucket(Bucket=name)
    if versioning:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    client.close()
    return name


@pytest.fixture
def make_bucket() -> Callable[..., str]:
    """Give a function that makes a fresh bucket on a server and returns its name."""
    return bucket_on


@pytest.fixture
def bucket(minio: Minio, make_bucket: Callable[[Minio], str]) -> str:
    """Give a fresh bucket on `minio`."""
    return make_bucket(minio)
