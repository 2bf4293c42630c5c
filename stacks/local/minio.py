"""A MinIO server, and how it tells NATS of what happens in its buckets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pulumi import ComponentResource, Input, Output, ResourceOptions

from stacks.local.credential import Credential
from stacks.local.folder import Folder
from stacks.local.nats import NatsServer
from stacks.local.paths import HOME
from stacks.local.port import FreePort
from stacks.local.process import Process
from tandem.settings import JetStream

USER = "tandem"
REGION = "us-east-1"
# How many events a durable target keeps while NATS is down: MinIO's default, in its words.
QUEUE_LIMIT = 100_000
# An event goes out twice. The fast target sends it at once and loses it when NATS is down; the
# durable one writes it to disk first and sends it within three seconds of NATS being there. To
# the replicator a change told twice is told once.
FAST, DURABLE = "fast", "durable"
ORIGINS = (FAST, DURABLE)


def target_id(site: str, origin: str) -> str:
    """Return the identifier of one of the targets to which a site's events go."""
    return f"{site}-{origin}"


def destinations(site: str) -> dict[str, str]:
    """Return the ARNs of both of a site's targets, by origin."""
    return {origin: f"arn:minio:sqs::{target_id(site, origin)}:nats" for origin in ORIGINS}


def targets(
    site: str, server: str, queue: JetStream, address: Input[str], password: Input[str]
) -> dict[str, Input[str]]:
    """Return the environment that gives a MinIO server both targets of a site on it.

    `address` is NATS's host and port.
    """
    environment: dict[str, Input[str]] = {}
    for origin in ORIGINS:
        values: dict[str, Input[str]] = {
            "ENABLE": "on",
            "ADDRESS": address,
            "SUBJECT": queue.subject(site, origin),
            "USERNAME": queue.user,
            "PASSWORD": password,
            # Without it MinIO does not wait for the stream's word on each event before it sends the
            # next; what the stream takes all the same it keeps, what it misses comes durably.
            "JETSTREAM": "on" if origin == DURABLE else "off",
        }
        if origin == DURABLE:
            values["QUEUE_DIR"] = f"{HOME}/{server}/events"
            values["QUEUE_LIMIT"] = str(QUEUE_LIMIT)
        for key, value in values.items():
            environment[f"MINIO_NOTIFY_NATS_{key}_{target_id(site, origin)}"] = value
    return environment


class MinioServer(ComponentResource):
    """A MinIO server on 127.0.0.1, whose data lie in `<name>/data` in the stack's folder.

    `sites` are those of its sites whose changes go to NATS, which must be there before: MinIO
    connects when it starts. `connection` has what an S3 client needs.
    """

    endpoint: Output[str]
    console: Output[str]
    connection: Mapping[str, Input[str]]
    process: Process

    def __init__(
        self,
        name: str,
        folder: str,
        *,
        ports: tuple[int | None, int | None],
        sites: Sequence[str],
        queue: JetStream,
        nats: NatsServer,
        home: Folder,
        opts: ResourceOptions | None = None,
    ) -> None:
        super().__init__("tandem:local:MinioServer", name, {}, opts)
        within = ResourceOptions(parent=self)
        port = FreePort(f"{name}-port", ports[0], within)
        console = FreePort(f"{name}-console-port", ports[1], within)
        password = Credential(f"{name}-password", within)
        at, console_at = (each.port.apply(_address) for each in (port, console))
        self.endpoint = Output.concat("http://", at)
        self.console = Output.concat("http://", console_at)
        environment = _environment(name, password.value)
        for site in sites:
            environment |= targets(site, name, queue, nats.address, nats.connection["password"])
        self.process = Process(
            name,
            folder,
            "minio",
            _arguments(name, at, console_at),
            environment=environment,
            ready={"url": Output.concat(self.endpoint, "/minio/health/cluster")},
            ports=[port.port, console.port],
            opts=ResourceOptions(parent=self, depends_on=[home, nats.process] if sites else [home]),
        )
        self.connection = {
            "endpoint": self.endpoint,
            "access_key": USER,
            "secret_key": password.value,
            "region": REGION,
        }
        self.register_outputs({"endpoint": self.endpoint, "console": self.console})


def _environment(name: str, password: Output[str]) -> dict[str, Input[str]]:
    return {
        "MINIO_ROOT_USER": USER,
        "MINIO_ROOT_PASSWORD": password,
        "MINIO_UPDATE": "off",
        # A put is answered when its event is on disk, not some time later: docs/decisions/0007.
        "MINIO_API_SYNC_EVENTS": "on",
        # Where it makes a folder for its client, whether or not there is a client.
        "HOME": f"{HOME}/{name}",
    }


def _arguments(name: str, address: Input[str], console: Input[str]) -> list[Input[str]]:
    return [
        *("server", f"{HOME}/{name}/data"),
        "--quiet",  # or else it would print its password
        *("--certs-dir", f"{HOME}/{name}/certificates"),
        *("--address", address),
        *("--console-address", console),
    ]


def _address(port: int) -> str:
    return f"127.0.0.1:{port:.0f}"
