"""Whether a process does what it is there for."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SECONDS = 5.0


def answers(url: str) -> bool:
    """Return whether a GET of an http URL gives 200; no proxy is asked."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)
    try:
        connection.request("GET", parts.path or "/")
        status = int(connection.getresponse().status)

    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return status == http.HTTPStatus.OK


def listens(port: int) -> bool:
    """Return whether somebody accepts connections on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(SECONDS)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_ready(sign: Mapping[str, Any], folder: Path) -> bool:
    """Return whether a sign is there: a `url` that answers, a `port`, or a `file` in `folder`."""
    if "url" in sign:
        return answers(sign["url"])
    if "port" in sign:
        return listens(int(sign["port"]))
    file: str = sign["file"]
    return (folder / file).exists()
