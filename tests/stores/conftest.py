"""The stores that the conformance tests hold to the same sentences."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tandem.settings import Site
from tandem.stores.base import ObjectStore
from tandem.stores.memory import MemoryStore
from tandem.stores.s3 import S3Store
from tests.servers import Minio

MOTO = "moto"
MAKERS = ("memory", "minio", MOTO)
# What moto 5.2 gets wrong, and the tests therefore expect of it instead.
MOTO_LACKS = frozenset({"line ends in keys", "parts by etag", "gone uploads"})


@dataclass
class Subject:
    """A store under test, and what is known of the server behind it."""

    name: str
    store: ObjectStore
    versioned: ObjectStore
    lacks: frozenset[str] = frozenset()


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def moto_site(endpoint: str, *, versioned: bool) -> Site:
    """Return a site on a fresh bucket; moto takes any credentials."""
    bucket = f"bucket-{secrets.token_hex(6)}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    client.create_bucket(Bucket=bucket)
    if versioned:
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    client.close()
    return Site(MOTO, bucket, endpoint, "any", "any", dialect="aws")


def minio_site(server: Minio, bucket: str) -> Site:
    return Site("minio", bucket, server.endpoint, server.access_key, server.secret_key)


def moto_store(endpoint: str, *, versioned: bool = False) -> S3Store:
    """Return a store on moto, which has conditional puts but neither of the other conditions."""
    store = S3Store.connect(moto_site(endpoint, versioned=versioned))
    store.capabilities = replace(
        store.capabilities, conditional_complete=False, conditional_delete=False
    )
    return store


@pytest.fixture(params=MAKERS)
async def subject(
    request: pytest.FixtureRequest, make_bucket: Callable[..., str]
) -> AsyncIterator[Subject]:
    made: Subject
    if request.param == "memory":
        made = Subject("memory", MemoryStore("memory"), MemoryStore("memory", versioned=True))
    elif request.param == MOTO:
        endpoint = request.getfixturevalue("moto_endpoint")
        stores = (moto_store(endpoint), moto_store(endpoint, versioned=True))
        made = Subject(MOTO, *stores, MOTO_LACKS)
    else:
        server = request.getfixturevalue("minio")
        sites = (
            minio_site(server, make_bucket(server)),
            minio_site(server, make_bucket(server, versioning=True)),
        )
        made = Subject("minio", *(S3Store.connect(site) for site in sites))
    yield made
    await made.store.close()
    await made.versioned.close()


@pytest.fixture
def store(subject: Subject) -> ObjectStore:
    return subject.store
