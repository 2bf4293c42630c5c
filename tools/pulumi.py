"""Run Pulumi on one of the project's stacks, and mend what an interrupted run of it left."""

import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from tools import project, sessions
from tools.steps import ToolError, output, say, watch

POLL_SECONDS = 0.5


class Pulumi:
    """The Pulumi command, in its environment, for one stack.

    It works on a copy of the stack's configuration: docs/decisions/0002-salt.md says why.
    """

    def __init__(self, command: Path, stack: str, environment: Mapping[str, str]) -> None:
        self._command = command
        self._stack = stack
        self._environment = dict(environment)
        self._session = project.RUNTIME / stack / "pulumi.session"
        self._copy = project.RUNTIME / stack / "project"

    def ask(self, *arguments: str) -> str:
        """Return what Pulumi prints. Raises ToolError with its complaint."""
        return output([self._command, *arguments], cwd=project.ROOT, env=self._environment, told=20)

    def exists(self) -> bool:
        """Tell whether the backend knows the stack."""
        known = json.loads(self.ask("stack", "ls", "--json"))
        return any(stack["name"].rpartition("/")[2] == self._stack for stack in known)

    def select(self) -> None:
        """Copy the stack's configuration, and make the stack where the backend does not know it."""
        source = project.ROOT / "stacks" / f"Pulumi.{self._stack}.yaml"
        if not source.exists():
            raise ToolError(f"there is no stack {self._stack}: {source} does not exist")
        target = self._copy / "stacks" / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project.ROOT / "Pulumi.yaml", self._copy / "Pulumi.yaml")
        target.write_text(_without_spare_salt(source.read_text()))
        self.ask("-C", str(self._copy), "stack", "select", "--create", self._stack)

    def run(self, operation: str, *flags: str) -> None:
        """Run an operation on the stack, showing what it says. Raises ToolError when it fails."""
        config = self._copy / "stacks" / f"Pulumi.{self._stack}.yaml"
        choice = ["--stack", self._stack, "--config-file", str(config)]
        try:
            code = watch(
                [self._command, operation, "--yes", "--skip-preview", *choice, *flags],
                cwd=project.ROOT,
                env=self._environment,
                started=lambda pid: sessions.record(self._session, pid),
            )
        finally:
            sessions.settle(self._session)
        if code:
            raise ToolError(f"pulumi {operation} failed with exit code {code}; it says why above")

    def settle(self) -> None:
        """Make the stack ready for an operation after whatever happened to the one before."""
        sessions.settle(self._session)
        if self._abandoned_lock():
            say("    clearing the lock of an interrupted run")
            self.ask("cancel", "--yes", "--stack", self._stack)
        deployment = json.loads(self.ask("stack", "export", "--stack", self._stack))["deployment"]
        pending = (deployment or {}).get("pending_operations", [])
        if any(operation["type"] == "creating" for operation in pending):
            say("    forgetting resources whose making was interrupted")
            self.run("refresh", "--clear-pending-creates")

    def _abandoned_lock(self) -> bool:
        """Tell whether the stack is locked by a run that is dead, after waiting for any that lives.

        Only the project's own state is looked at: locks of other backends are their users' affair.
        """
        if self._environment.get("PULUMI_BACKEND_URL") != project.backend():
            return False
        abandoned = False
        for file in project.STATE.glob(f".pulumi/locks/organization/*/{self._stack}/*.json"):
            while holder := living_holder(file):
                say(f"    waiting: Pulumi (pid {holder}) is at work on {self._stack}")
                while living_holder(file):
                    time.sleep(POLL_SECONDS)
            abandoned = abandoned or file.exists()
        return abandoned


def holds_secrets(configuration: str) -> bool:
    """Tell whether a stack's configuration holds values that only its passphrase opens."""
    return "secure:" in configuration


def _without_spare_salt(configuration: str) -> str:
    """Leave out a salt that opens nothing: it would only bind the file to a lost passphrase."""
    if holds_secrets(configuration):
        return configuration
    lines = configuration.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("encryptionsalt:"))


def living_holder(lock: Path) -> int | None:
    """Return the pid of the Pulumi that holds a lock of the file backend; None where it is dead.

    Raises ToolError when the lock was taken on another machine, of which nothing can be known.
    """
    try:
        holder = json.loads(lock.read_text())
        pid, host = int(holder["pid"]), holder["hostname"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None  # cut short while it was written, so its writer is dead
    if host != socket.gethostname():
        raise ToolError(
            f"the stack is locked by Pulumi (pid {pid}) on {host}: {lock}\n"
            "What to do: when nothing runs there any more, run `pulumi cancel`.",
        )
    if sessions.PROC.exists():
        process = sessions.look(pid)
        return pid if process and process.command.startswith("pulumi") else None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return pid  # it lives, under another user
    return pid
