"""Stand a stack up and show that it works; take it down and leave nothing behind."""

import contextlib
import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from tools import daemons, environment, install, project, requirements
from tools.locks import exclusive
from tools.pulumi import Pulumi, holds_secrets
from tools.steps import ToolError, say, step


def up(stack: str) -> None:
    """Install what is missing, run `pulumi up`, put one object and say how long it took."""
    prepare(dev=False)
    with exclusive(project.ROOT / "stacks", "the stacks"):
        pulumi = _pulumi(stack)
        with step(f"preparing stack {stack}", "2 s"):
            pulumi.select()
            pulumi.settle()
        with step(f"pulumi up --refresh --stack {stack}", "15 s"):
            pulumi.run("up", "--refresh")
        _show(stack)


def down(stack: str) -> None:
    """Run `pulumi destroy`, stop what still runs, and remove what the stack left here."""
    runtime = project.RUNTIME / stack
    if not runtime.exists() and not project.STATE.exists() and not _elsewhere():
        say(f"Stack {stack} is not up: there is nothing to take down.")
        return
    prepare(dev=False)
    with exclusive(project.ROOT / "stacks", "the stacks"):
        pulumi = _pulumi(stack)
        if pulumi.exists():
            with step(f"pulumi destroy --refresh --stack {stack}", "10 s"):
                pulumi.select()
                pulumi.settle()
                pulumi.run("destroy", "--refresh")
            if not _elsewhere():
                pulumi.ask("stack", "rm", "--yes", "--preserve-config", stack)
        else:
            say(f"Stack {stack} is not up.")
        for file in runtime.glob("*.pid"):
            daemons.stop(file)
        _clear(runtime)
        if not _elsewhere():
            _clear_state()
        _remove_if_empty(project.RUNTIME)


def prepare(*, dev: bool) -> None:
    """Install the project's requirements and the tools that a stack, or a developer, needs."""
    requirements.install(dev=dev)
    for name in ("pulumi", "minio", "mc", "versitygw") if dev else ("pulumi", "minio"):
        install.ensure(name)


def _elsewhere() -> bool:
    return environment.chosen_backend(os.environ) is not None


def _pulumi(stack: str) -> Pulumi:
    variables = {**os.environ, **environment.for_pulumi(os.environ)}
    return Pulumi(install.ensure("pulumi"), stack, variables)


def _show(stack: str) -> None:
    """Put one small object where the first rule looks for it; say where to look and what to try."""
    settings = json.loads((project.RUNTIME / stack / "tandem.json").read_text())
    if not settings["rules"]:
        say(f"Stack {stack} is up; it has no rule, so there is nothing to show.")
        return
    rule = settings["rules"][0]
    site, now = rule["source"], f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    key = f"{rule['prefix']}hello/{now}{rule['suffix'] or '.txt'}"
    say(f"==> tandem put {site} {key} --wait")
    done = subprocess.run(  # noqa: S603  # the project's own command
        [project.VENV / "bin" / "tandem", "--stack", stack, "put", site, key, "-", "--wait"],
        cwd=project.ROOT,
        input=b"Hello from Tandem.\n",
        check=False,
    )
    if done.returncode:
        raise ToolError(
            f"stack {stack} is up, but {key} did not reach its targets, as told above.\n"
            f"What to do: .venv/bin/tandem status, and the logs in {project.RUNTIME / stack}.",
        )
    say(f"\nThe service answers on {settings['service_url']}. Worth trying next:")
    readme = f"{rule['prefix']}README{rule['suffix'] or '.md'}"
    for arguments in ("status", f"put {site} {readme} README.md --wait", "verify"):
        say(f"    .venv/bin/tandem {arguments}")


def _clear(runtime: Path) -> None:
    """Remove what the stack needed while it ran; say what data it was told to keep."""
    if not runtime.exists():
        return
    for leftover in ("project", "metrics"):
        shutil.rmtree(runtime / leftover, ignore_errors=True)
    for pattern in ("*.log*", "*.pid", "sync-*", "pulumi.session", "tandem.json"):
        for file in runtime.glob(pattern):
            file.unlink(missing_ok=True)
    for folder, _, files in os.walk(runtime, topdown=False):
        if not files:
            _remove_if_empty(Path(folder))
    if runtime.exists():
        kept = ", ".join(sorted(entry.name for entry in runtime.iterdir()))
        say(f"Kept in {runtime}: {kept}. Remove that folder when nothing in it is wanted any more.")


def _clear_state() -> None:
    """Remove the project's own state when no stack is left in it, and the passphrase with it."""
    if any(project.STATE.glob(".pulumi/stacks/*/*.json")):
        return
    shutil.rmtree(project.STATE, ignore_errors=True)
    stacks = (project.ROOT / "stacks").glob("Pulumi.*.yaml")
    if not any(holds_secrets(file.read_text()) for file in stacks):
        project.PASSPHRASE.unlink(missing_ok=True)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
