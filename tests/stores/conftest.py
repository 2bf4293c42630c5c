"""The stores that the conformance tests hold to the same sentences."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tandem.change import Dialect
from tandem.settings import Site
from tandem.stores.base import Capabilities, ObjectStore
from tandem.stores.memory import MemoryStore
from tandem.stores.probe import probe
from tandem.stores.s3 import S3Store
from tests.servers import Minio, Versitygw

MOTO = "moto"
MAKERS = ("memory", "minio", "versitygw", MOTO)
# What the store in memory does when asked for all that it can do.
EVERYTHING = Capabilities(
    conditional_delete=True, copy=True, conditional_copy=True, checksums=("sha256",)
)
# Mistakes of servers that no probe looks for: each would be a mistake in an answer to somebody
# who is too late, and costs a retry. moto 5.2 answers 500 to a part for an upload that is gone.
LACKS = {MOTO: frozenset({"gone uploads"})}
# What the probe found, by server and versioning: a server is asked once, not for each test.
FOUND: dict[tuple[str, bool], Capabilities] = {}


@dataclass
class Subject:
    """A store under test, and what is known of the server behind it."""

    name: str
    store: ObjectStore
    versioned: ObjectStore

    @property
    def lacks(self) -> frozenset[str]:
        return LACKS.get(self.name, frozenset())


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


def site_of(server: Minio | Versitygw, bucket: str, dialect: Dialect) -> Site:
    return Site(
        dialect, bucket, server.endpoint, server.access_key, server.secret_key, dialect=dialect
    )


def minio_site(server: Minio, bucket: str) -> Site:
    return site_of(server, bucket, "minio")


@pytest.fixture
def make_store(
    request: pytest.FixtureRequest, make_bucket: Callable[..., str]
) -> Callable[..., MemoryStore | S3Store]:
    """Give a function that makes a store on a fresh bucket, by the name of its server."""

    def make(name: str, *, versioned: bool = False) -> MemoryStore | S3Store:
        if name == "memory":
            return MemoryStore("memory", versioned=versioned, capabilities=EVERYTHING)
        if name == MOTO:
            endpoint = request.getfixturevalue("moto_endpoint")
            return S3Store.connect(moto_site(endpoint, versioned=versioned))
        server = request.getfixturevalue(name)
        bucket = make_bucket(server, versioning=versioned)
        dialect: Dialect = "minio" if name == "minio" else "versitygw"
        return S3Store.connect(site_of(server, bucket, dialect))

    return make


async def probed(name: str, store: MemoryStore | S3Store, *, versioned: bool) -> ObjectStore:
    """Return a store that knows what the probe found."""
    if (name, versioned) not in FOUND:
        FOUND[name, versioned] = (await probe(store)).capabilities
    store.capabilities = FOUND[name, versioned]
    return store


@pytest.fixture(params=MAKERS)
async def subject(
    request: pytest.FixtureRequest, make_store: Callable[..., MemoryStore | S3Store]
) -> AsyncIterator[Subject]:
    name: str = request.param
    made = Subject(
        name,
        await probed(name, make_store(name), versioned=False),
        await probed(name, make_store(name, versioned=True), versioned=True),
    )
    yield made
    await made.store.close()
    await made.versioned.close()


@pytest.fixture
def store(subject: Subject) -> ObjectStore:
    return subject.store
