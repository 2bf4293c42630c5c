"""Real servers for tests: each on a free port of 127.0.0.1, in a folder of its own."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from pathlib import Path

from tools.install import ensure

START_SECONDS = 60


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """Start, kill and start again one server process; its port and folder stay the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return the command line."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return the whole environment."""
        return {"HOME": str(self.folder), "PATH": "/usr/bin:/bin"}

    def ready(self) -> bool:
        """Return whether the server answers."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def start(self) -> None:
        """Start the server and wait until it answers."""
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            self.command(),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        limit = time.monotonic() + START_SECONDS
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > limit:
                tail = (self.folder / "log").read_text(errors="replace")[-2000:]
                self.kill()
                raise RuntimeError(f"{self.command()[0]} did not start:\n{tail}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill the server as a power cut would (SIGKILL), and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Minio(Server):
    """A MinIO server; `extra` is added to its environment, such as notification targets."""

    region = "us-east-1"

    def __init__(self, folder: Path, extra: dict[str, str] | None = None) -> None:
        super().__init__(folder)
        self.console_port = free_port()
        self.access_key = "tandem"
        self.secret_key = secrets.token_hex(16)
        self.extra = extra or {}

    @property
    def endpoint(self) -> str:
        """Return the URL of the S3 API."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [
            str(ensure("minio")),
            "server",
            str(self.folder / "data"),
            "--address",
            f"127.0.0.1:{self.port}",
            "--console-address",
            f"127.0.0.1:{self.console_port}",
        ]

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",
            **self.extra,
        }

    def ready(self) -> bool:
        # `health/ready` says 200 before the server takes requests.
        url = f"{self.endpoint}/minio/health/cluster"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 -- our own server
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


class Versitygw(Server):
    """Versity's S3 gateway over a folder; buckets may be versioned, as on MinIO."""

    region = "us-east-1"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.access_key = "tandem"
        self.secret_key = secrets.token_hex(16)

    @property
    def endpoint(self) -> str:
        """Return the URL of the S3 API."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        data, versions = self.folder / "data", self.folder / "versions"
        for made in (data, versions):
            made.mkdir(exist_ok=True)
        return [
            str(ensure("versitygw")),
            "--port",
            f"127.0.0.1:{self.port}",
            "--keep-alive",
            "--quiet",
            "posix",
            "--versioning-dir",
            str(versions),
            str(data),
        ]

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "ROOT_ACCESS_KEY": self.access_key,
            "ROOT_SECRET_KEY": self.secret_key,
        }


class Nats(Server):
    """A NATS server with JetStream."""

    user = "tandem"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.password = secrets.token_hex(16)

    @property
    def url(self) -> str:
        """Return the URL of the server, without credentials."""
        return f"nats://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [
            str(Path(sysconfig.get_path("scripts")) / "nats-server"),
            "--addr",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--jetstream",
            "--store_dir",
            str(self.folder / "store"),
            "--user",
            self.user,
            "--pass",
            self.password,
        ]
