"""The workers that replicate, and the service that tells how they do."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pulumi import ComponentResource, Input, Output, Resource, ResourceOptions

from stacks.local.folder import METRICS
from stacks.local.paths import HOME, PROJECT, ROOT
from stacks.local.port import FreePort
from stacks.local.private_file import PrivateFile
from stacks.local.process import Process
from tandem.settings import ENVIRONMENT_VARIABLE, FILE_NAME


def code_digest(root: Path = ROOT) -> str:
    """Return a digest of all that workers and service are made of: their sources and libraries."""
    digest = hashlib.sha256()
    files = [*sorted((root / "function_src").rglob("*.py")), root / "requirements.txt"]
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


class Replicator(ComponentResource):
    """A number of workers, and the service, on the settings that `content` gives.

    `after` is what must be there before they start. When the settings or the code change, the
    next `up` restarts them.
    """

    settings_file: PrivateFile

    def __init__(
        self,
        folder: str,
        content: Input[str],
        *,
        workers: int,
        slots: int,
        port: FreePort,
        after: Sequence[Resource],
        opts: ResourceOptions | None = None,
    ) -> None:
        super().__init__("tandem:local:Replicator", "replicator", {}, opts)
        self.settings_file = PrivateFile(
            "settings-file",
            f"{folder}/{FILE_NAME}",
            content,
            ResourceOptions(parent=self, depends_on=list(after)),
        )
        self._folder = folder
        self._fingerprint = Output.concat(self.settings_file.digest, "-", code_digest())
        for number in range(workers):
            self._worker(f"worker-{number}", slots)
        self._service(port)
        self.register_outputs({})

    def _worker(self, name: str, slots: int) -> None:
        ready = f"{name}.ready"
        Process(
            name,
            self._folder,
            "python",
            ["-m", "service.worker", "--name", name, "--slots", str(slots)],
            environment={**_environment(name), "TANDEM_READY_FILE": f"{HOME}/{ready}"},
            ready={"file": ready},
            fingerprint=self._fingerprint,
            opts=ResourceOptions(parent=self, depends_on=[self.settings_file]),
        )

    def _service(self, port: FreePort) -> None:
        number = port.port.apply(lambda number: f"{number:.0f}")
        Process(
            "service",
            self._folder,
            "python",
            ["-m", "service", "--port", number],
            environment=_environment("service"),
            ready={"url": Output.concat("http://127.0.0.1:", number, "/healthz")},
            ports=[port.port],
            fingerprint=self._fingerprint,
            opts=ResourceOptions(parent=self, depends_on=[self.settings_file]),
        )


def _environment(name: str) -> dict[str, str]:
    return {
        "PYTHONPATH": f"{PROJECT}/function_src",
        "PROMETHEUS_MULTIPROC_DIR": f"{HOME}/{METRICS}",
        "TANDEM_LOG_FILE": f"{HOME}/{name}.log",
        ENVIRONMENT_VARIABLE: f"{HOME}/{FILE_NAME}",
    }
