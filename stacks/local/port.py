"""A TCP port of 127.0.0.1."""

from __future__ import annotations

import random
import socket
from threading import Lock
from typing import Any

from pulumi import Input, Output, ResourceOptions
from pulumi.dynamic import CreateResult, DiffResult, Resource, UpdateResult

from stacks.local.provider import Properties, Provider

# Below the ports that Linux and macOS give to outgoing connections, so that none of these takes
# the port while its server restarts.
FIRST, LAST = 20000, 32767

_lock = Lock()
_given: set[int] = set()


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port now."""
    with socket.socket() as probe:
        # As servers do, or else connections that were closed a moment ago would count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def find_free() -> int:
    """Return a free port that this process has not given before.

    Raises RuntimeError if there is none.
    """
    candidates = list(range(FIRST, LAST + 1))
    random.shuffle(candidates)
    with _lock:
        for port in candidates:
            if port not in _given and is_free(port):
                _given.add(port)
                return port
    raise RuntimeError(f"no port of 127.0.0.1 from {FIRST} to {LAST} is free")


class PortProvider(Provider):
    """Choose a port once, and stay with it."""

    def diff(self, _id: str, olds: Properties, news: Properties) -> DiffResult:
        """Change the port only to one that is asked for."""
        wanted = news.get("wanted")
        return DiffResult(changes=wanted is not None and wanted != olds["port"])

    def create(self, props: Properties) -> CreateResult:
        """Take the port that is asked for, or a free one."""
        port = int(props.get("wanted") or find_free())
        return CreateResult(str(port), {"port": port})

    def update(self, _id: str, _olds: Properties, news: Properties) -> UpdateResult:
        """Take the port that is asked for."""
        return UpdateResult({"port": int(news["wanted"])})


class FreePort(Resource, module="local", name="FreePort"):
    """A port that was free when it was chosen; `wanted` overrules the choice."""

    port: Output[int]

    def __init__(
        self, name: str, wanted: Input[int] | None = None, opts: ResourceOptions | None = None
    ) -> None:
        properties: dict[str, Any] = {"wanted": wanted, "port": None}
        super().__init__(PortProvider(), name, properties, opts)
