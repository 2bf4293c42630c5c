"""A process that goes on when Pulumi has ended."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pulumi import Input, Output, ResourceOptions
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from stacks.local import daemon, logfile, readiness
from stacks.local.daemon import Daemon, StartError
from stacks.local.paths import ROOT, absolute
from stacks.local.port import is_free
from stacks.local.provider import Properties, Provider, gone
from tools.install import ensure

# Generous: the first start on a busy machine may be slow.
READY_SECONDS = 90.0
# What a process gets of Pulumi's own environment; the rest is the user's affair.
INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")


def executable(program: str) -> str:
    """Return the path of a program: of .venv, or a tool that is built where it is missing.

    Raises ToolError when a tool cannot be had.
    """
    if program == "python":
        return sys.executable
    if program == "nats-server":
        return str(Path(sysconfig.get_path("scripts")) / program)
    return str(ensure(program))


def start(props: Properties) -> Daemon:
    """Start a process and wait until it is ready; what an interrupted run left is ended first.

    Raises StartError with the end of its log, and leaves nothing running, if it does not get ready.
    """
    name, folder = props["name"], ROOT / props["folder"]
    command = [executable(props["program"]), *props["arguments"]]
    _stop(props)
    for port in props["ports"]:
        if not is_free(int(port)):
            raise StartError(
                f"{name} cannot listen on 127.0.0.1:{port:.0f}: another program does. "
                f"End it, or set another port under local.ports"
            )
    log, record = folder / f"{name}.log", folder / f"{name}.pid"
    started = daemon.spawn(
        [absolute(word, props["folder"]) for word in command],
        environment=_environment(props),
        folder=ROOT,
        log=log,
        record=record,
    )
    try:
        fault = daemon.wait(
            started, lambda: readiness.is_ready(props["ready"], folder), READY_SECONDS
        )
    except BaseException:
        _stop(props)
        raise
    if fault:
        _stop(props)
        raise StartError(f"{name} {fault}; the end of {log}:\n{logfile.tail(log)}")
    return started


def _environment(props: Properties) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    own = {name: absolute(text, props["folder"]) for name, text in props["environment"].items()}
    return {"HOME": str(ROOT / props["folder"]), **inherited, **own}


def _lives(props: Properties) -> list[Daemon]:
    """List the processes that the pid file and the state name, as far as they are alive.

    They are the same, unless an `up` was interrupted between a start and its end.
    """
    known = [daemon.recorded(ROOT / props["folder"] / f"{props['name']}.pid")]
    if props.get("pid"):
        known.append(Daemon(int(props["pid"]), float(props["created"])))
    return [each for each in known if each and each.alive]


def _stop(props: Properties) -> None:
    """End a process, with what is left of the session it led, and remove the files it had."""
    folder, name = ROOT / props["folder"], props["name"]
    known = [daemon.recorded(folder / f"{name}.pid"), *_lives(props)]
    for each in filter(None, known):
        daemon.stop(each)
    (folder / f"{name}.pid").unlink(missing_ok=True)
    if "file" in props["ready"]:
        (folder / props["ready"]["file"]).unlink(missing_ok=True)


class ProcessProvider(Provider):
    """Start, look after and end a process."""

    inputs = (
        *("name", "folder", "program", "arguments", "environment"),
        *("ports", "ready", "fingerprint"),
    )
    replacing = ("name", "folder")

    def create(self, props: Properties) -> CreateResult:
        """Start the process; it counts as created when it is ready."""
        return CreateResult(props["name"], _outputs(props, start(props)))

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Look whether the process is alive; one that is alive and unwell is still there."""
        alive = _lives(props)
        return ReadResult(id_, _outputs(props, alive[0])) if alive else gone()

    def update(self, _id: str, olds: Properties, news: Properties) -> UpdateResult:
        """Restart the process."""
        _stop(olds)
        return UpdateResult(_outputs(news, start(news)))

    def delete(self, _id: str, props: Properties) -> None:
        """End the process."""
        _stop(props)


def _outputs(props: Properties, process: Daemon) -> Properties:
    return {**props, "pid": process.pid, "created": process.created}


class Process(Resource, module="local", name="Process"):
    """A process that is ready, with its log and its pid file in the stack's folder.

    `program` is python, nats-server or one of the tools that `tools` knows. `ready` has one of
    `url`, `port` and `file`. `fingerprint` stands for what the process reads when it starts: when
    that changes, as when any other input does, the process is restarted. Paths in arguments and
    environment begin with `{home}` or `{project}`. `pid` changes with every restart: no other
    resource may depend on it.
    """

    pid: Output[int]

    def __init__(
        self,
        name: str,
        folder: str,
        program: str,
        arguments: Sequence[Input[str]],
        *,
        ready: Mapping[str, Input[str] | Input[int]],
        environment: Mapping[str, Input[str]] | None = None,
        ports: Sequence[Input[int]] = (),
        fingerprint: Input[str] = "",
        opts: ResourceOptions | None = None,
    ) -> None:
        properties: dict[str, Any] = {
            "name": name,
            "folder": folder,
            "program": program,
            "arguments": list(arguments),
            "environment": Output.secret(dict(environment or {})),
            "ports": list(ports),
            "ready": dict(ready),
            "fingerprint": fingerprint,
            "pid": None,
            "created": None,
        }
        super().__init__(ProcessProvider(), name, properties, opts)
