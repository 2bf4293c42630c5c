"""A stack stood up by the real Pulumi engine, in a copy of the project of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from tandem.settings import FILE_NAME, Settings, Site
from tests.servers import Minio
from tools.install import ensure

ROOT = Path(__file__).parents[1]
QUIET_SECONDS = 900


def copy_project(folder: Path) -> None:
    """Copy what git knows or would take, and link the virtual environment."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)


class Stack:
    """One stack of the project: up, kill a process of it, up again, destroy."""

    def __init__(self, folder: Path, name: str = "local") -> None:
        self.folder = folder
        self.name = name
        self.home = folder / ".tandem" / name
        copy_project(folder)
        (folder / "state").mkdir()
        tools = [str(Path(sys.prefix) / "bin"), str(ensure("pulumi").parent)]
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([*tools, os.environ["PATH"]]),
            # `make up` installs the command; a stack of a test runs its own copy of it.
            "PYTHONPATH": str(folder / "function_src"),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}?metadata=skip",
            "PULUMI_CONFIG_PASSPHRASE": "for a test",
            "PULUMI_HOME": str(folder / "pulumi-home"),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        self.pulumi("stack", "select", "--create", name)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the project as a user would."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{command} failed:\n{done.stdout}\n{done.stderr}")
        return done

    def pulumi(self, *arguments: str, check: bool = True) -> str:
        """Run the Pulumi command without a terminal and return what it printed."""
        done = self.run("pulumi", *arguments, "--non-interactive", check=check)
        return done.stdout + done.stderr

    def up(self) -> str:
        """Stand the stack up, or mend it."""
        return self.pulumi("up", "--yes", "--refresh", "--skip-preview", "--stack", self.name)

    def destroy(self) -> str:
        """Tear the stack down."""
        return self.pulumi("destroy", "--yes", "--skip-preview", "--stack", self.name)

    def tandem(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the `tandem` command on this stack."""
        return self.run(sys.executable, "-m", "tandem.cli.main", *arguments, check=False)

    @property
    def settings(self) -> Settings:
        """Return what `pulumi up` wrote for the workers."""
        return Settings.parse((self.home / FILE_NAME).read_text(encoding="utf-8"))

    def server(self, site: str) -> Minio:
        """Return a site's server in the shape that the tests' boto3 readers take."""
        found: Site = self.settings.sites[site]
        server = Minio.__new__(Minio)
        server.port = int(found.endpoint.rpartition(":")[2])
        server.access_key, server.secret_key = found.access_key, found.secret_key
        return server

    def pid(self, process: str) -> int:
        """Return the process id of one of the stack's processes."""
        pid: int = json.loads((self.home / f"{process}.pid").read_text())["pid"]
        return pid

    def kill(self, process: str) -> None:
        """Kill -9 one of the stack's processes."""
        os.kill(self.pid(process), signal.SIGKILL)

    def processes(self) -> list[psutil.Process]:
        """Return every process whose command line or environment names this copy."""
        return [
            process
            for process in psutil.process_iter()
            if any(str(self.home) in word for word in _words(process))
        ]

    def status(self) -> dict[str, Any]:
        """Return what `tandem status --json` says."""
        done = self.tandem("status", "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def wait_until_quiet(self) -> None:
        """Wait until no change waits, for long enough that late notifications have come too."""
        limit, still = time.monotonic() + QUIET_SECONDS, 0
        while still < 6:
            assert time.monotonic() < limit, f"still busy: {self.status()}"
            time.sleep(1)
            waiting = sum(rule["backlog"] for rule in self.status()["rules"])
            still = still + 1 if waiting == 0 else 0


def _words(process: psutil.Process) -> list[str]:
    try:
        return [*process.cmdline(), *process.environ().values()]
    except psutil.Error:
        return []
