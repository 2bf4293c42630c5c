"""The NATS server that carries a stack's changes."""

from __future__ import annotations

import json
from typing import Any

from pulumi import ComponentResource, Input, Output, ResourceOptions

from stacks.local.credential import Credential
from stacks.local.folder import Folder
from stacks.local.port import FreePort
from stacks.local.private_file import PrivateFile
from stacks.local.process import Process

USER = "tandem"
LOG_BYTES, LOGS = 8 << 20, 3


def configuration(folder: str, port: int, password: str) -> str:
    """Return a configuration file for nats-server, whose format has JSON as a part of it.

    Paths in it are relative to the project, where the server is started.
    """
    settings = {
        "host": "127.0.0.1",
        "port": port,
        "authorization": {"user": USER, "password": password},
        "jetstream": {"store_dir": f"{folder}/nats"},
        "log_file": f"{folder}/nats.log",
        "logfile_size_limit": LOG_BYTES,
        "logfile_max_num": LOGS,
    }
    return json.dumps(settings, indent=2)


class NatsServer(ComponentResource):
    """A nats-server with JetStream, whose store is `nats` in the stack's folder.

    `connection` has its `url`, `user` and `password`.
    """

    address: Output[str]
    url: Output[str]
    connection: dict[str, Input[str]]
    process: Process

    def __init__(
        self, folder: str, port: int | None, home: Folder, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("tandem:local:NatsServer", "nats", {}, opts)
        within = ResourceOptions(parent=self)
        chosen = FreePort("nats-port", port, within)
        password = Credential("nats-password", within)
        content: Any = Output.all(chosen.port, password.value).apply(
            lambda known: configuration(folder, int(known[0]), known[1])
        )
        path = f"{folder}/nats.conf"
        file = PrivateFile(
            "nats-configuration", path, content, ResourceOptions(parent=self, depends_on=[home])
        )
        self.process = Process(
            "nats",
            folder,
            "nats-server",
            ["--config", "{home}/nats.conf"],
            ready={"port": chosen.port},
            ports=[chosen.port],
            fingerprint=file.digest,
            opts=ResourceOptions(parent=self, depends_on=[home, file]),
        )
        self.address = chosen.port.apply(lambda number: f"127.0.0.1:{number:.0f}")
        self.url = Output.concat("nats://", self.address)
        self.connection = {"url": self.url, "user": USER, "password": password.value}
        self.register_outputs({"url": self.url})
