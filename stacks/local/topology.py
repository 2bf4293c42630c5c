"""Two S3 servers on this machine, kept in step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulumi import ComponentResource, Input, Output, Resource, ResourceOptions

from stacks.local import minio
from stacks.local.bucket import Bucket
from stacks.local.consumer import Consumer
from stacks.local.folder import STREAMS, Folder, bucket_data
from stacks.local.minio import MinioServer
from stacks.local.nats import USER, NatsServer
from stacks.local.notification import BucketNotification
from stacks.local.paths import home
from stacks.local.port import FreePort
from stacks.local.replicator import Replicator
from stacks.local.stream import Bounds, Stream
from stacks.local.versioning import BucketVersioning
from stacks.settings import StackSettings
from tandem.errors import ErrorClass
from tandem.settings import HISTORY, JetStream, Settings, Site

SERVERS = ("source", "target")
# What `tandem why` can look back on: about 250,000 attempts, none older than a week.
REMEMBERED = Bounds(for_subject=HISTORY, size=256 * 1024 * 1024, age=7 * 24 * 3600)


def server_name(server: str) -> str:
    """Return the name of the process that is the server `source` or `target`."""
    return f"minio-{server}"


def disposable(settings: StackSettings) -> list[str]:
    """Return which data may go with the stack's folder, whether or not their server still runs."""
    if not settings.force_destroy:
        return []
    ours = [site for site in settings.sites.values() if not site.adopt]
    return [STREAMS, *(bucket_data(server_name(site.server), site.bucket_name) for site in ours)]


class LocalTopology(ComponentResource):
    """Two MinIO servers, NATS JetStream, workers and the service.

    `outputs` are what the stack exports; those with a password in them are secret.
    """

    outputs: dict[str, Output[Any]]

    def __init__(self, settings: StackSettings, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:local:Topology", settings.stack, {}, opts)
        self._settings = settings
        self._folder = home(settings.stack)
        self._rules = [rule.to_rule() for rule in settings.rules]
        self._sources = {one.source for rule in self._rules for one in rule.directions}
        # Names only: the address and the password come with the server.
        self._queue = JetStream(url="", user=USER, password="", stack=settings.stack)
        ports = settings.local.ports
        within = ResourceOptions(parent=self)
        self._home = Folder("folder", self._folder, disposable(settings), within)
        self._nats = NatsServer(self._folder, ports.nats, self._home, within)
        self._servers = {
            "source": self._server("source", (ports.source, ports.source_console)),
            "target": self._server("target", (ports.target, ports.target_console)),
        }
        streams = self._streams()
        buckets = [each for site in settings.sites for each in self._bucket(site, streams)]
        service = FreePort("service-port", ports.service, within)
        url = service.port.apply(lambda port: f"http://127.0.0.1:{port:.0f}")
        replicator = Replicator(
            self._folder,
            self._content(url),
            workers=settings.local.workers,
            slots=settings.local.slots,
            port=service,
            after=[*streams, *buckets],
            opts=within,
        )
        self.outputs = self._exported(url, replicator)
        self.register_outputs(self.outputs)

    def _server(self, server: str, ports: tuple[int | None, int | None]) -> MinioServer:
        hosted = [name for name, site in self._settings.sites.items() if site.server == server]
        return MinioServer(
            server_name(server),
            self._folder,
            ports=ports,
            sites=[site for site in hosted if site in self._sources],
            queue=self._queue,
            nats=self._nats,
            home=self._home,
            opts=ResourceOptions(parent=self),
        )

    def _streams(self) -> list[Resource]:
        """Make the streams, and the consumer that all workers share."""
        within = ResourceOptions(parent=self._nats, depends_on=[self._nats.process])
        common: dict[str, Any] = {
            "server": self._nats.connection,
            "forced": self._settings.force_destroy,
            "opts": within,
        }
        changes = Stream(
            "changes",
            stream=self._queue.changes,
            subject=self._queue.subject("*", "*"),
            retention="workqueue",
            **common,
        )
        consumer = Consumer(
            "workers",
            server=self._nats.connection,
            stream=changes.stream,
            consumer=self._queue.consumer,
            opts=within,
        )
        errors = [
            Stream(
                f"errors-{each}",
                stream=self._queue.errors(each),
                subject=self._queue.error_subject(each),
                retention="limits",
                **common,
            )
            for each in ErrorClass
        ]
        outcomes = Stream(
            "outcomes",
            stream=self._queue.outcomes,
            subject=self._queue.outcome_subject(),
            retention="limits",
            bounds=REMEMBERED,
            # It holds no work, only what was said of it.
            **{**common, "forced": True},
        )
        return [changes, consumer, *errors, outcomes]

    def _bucket(self, name: str, streams: list[Resource]) -> list[Resource]:
        """Make the bucket of a site, and have its changes told if it is the source of a rule."""
        site = self._settings.sites[name]
        host = self._servers[site.server]
        bucket = Bucket(
            f"{name}-bucket",
            server=host.connection,
            host=server_name(site.server),
            bucket=site.bucket_name,
            site=name,
            stack=self._settings.stack,
            adopt=site.adopt,
            forced=self._settings.force_destroy,
            opts=ResourceOptions(parent=host, depends_on=[host.process]),
        )
        made: list[Resource] = [bucket]
        within = ResourceOptions(parent=bucket)
        if site.versioning:
            versioning = BucketVersioning(
                f"{name}-versioning", server=host.connection, bucket=bucket.bucket, opts=within
            )
            made.append(versioning)
        if name in self._sources:
            notification = BucketNotification(
                f"{name}-notification",
                server=host.connection,
                bucket=bucket.bucket,
                stack=self._settings.stack,
                destinations=minio.destinations(name),
                # An event that no stream takes would be lost. After the versioning, since MinIO
                # keeps all that is set of a bucket in one file, which it reads, changes and writes:
                # of two settings at the same moment one is lost (BucketMetadataSys.Update).
                opts=ResourceOptions(parent=bucket, depends_on=[*streams, *made]),
            )
            made.append(notification)
        return made

    def _content(self, service_url: Output[str]) -> Output[str]:
        """Return what the settings file of workers, service and command says."""
        hosts = {server: host.connection for server, host in self._servers.items()}
        known: Output[Any] = Output.all(
            hosts=hosts, queue=self._nats.connection, service_url=service_url
        )
        return known.apply(lambda told: self._dump(**told))

    def _dump(self, hosts: Mapping[str, Any], queue: Mapping[str, str], service_url: str) -> str:
        sites = {
            name: Site(name=name, bucket=site.bucket_name, **hosts[site.server])
            for name, site in self._settings.sites.items()
        }
        return Settings(
            stack=self._settings.stack,
            sites=sites,
            rules=tuple(self._rules),
            queue=JetStream(**queue, stack=self._settings.stack),
            service_url=service_url,
            reconcile=self._settings.reconcile.to_reconcile(),
            sweep=self._settings.sweep.to_sweep(),
        ).dump()

    def _exported(self, service_url: Output[str], replicator: Replicator) -> dict[str, Output[Any]]:
        outputs: dict[str, Input[Any]] = {
            "serviceUrl": service_url,
            "natsUrl": self._nats.url,
            "natsCredentials": Output.secret(
                {key: self._nats.connection[key] for key in ("user", "password")}
            ),
            "settingsFile": replicator.settings_file.path,
            "buckets": {name: site.bucket_name for name, site in self._settings.sites.items()},
        }
        for server, host in self._servers.items():
            outputs[f"{server}Endpoint"] = host.endpoint
            outputs[f"{server}Console"] = host.console
            outputs[f"{server}Credentials"] = Output.secret(
                {
                    "accessKey": host.connection["access_key"],
                    "secretKey": host.connection["secret_key"],
                }
            )
        return {name: Output.from_input(value) for name, value in outputs.items()}
