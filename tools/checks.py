"""What `make test`, `make lint`, `make bench` and `make lock` do, each step with its time."""

import os
from collections.abc import Mapping

from tools import environment, project, stack
from tools.steps import ToolError, output, say, step, watch

TYPED = ("function_src", "stacks", "tools")
PYTEST = ("-n", "2", "--dist", "loadfile", "-q", "--durations", "15")
LOUD = ("CI", "BUILD_NUMBER")


def lint() -> int:
    """Check style, format and types; return 1 after showing all that is wrong, else 0."""
    stack.prepare(dev=True)
    checks = (
        ("ruff check", "ruff", "check", "--quiet"),
        ("ruff format --check", "ruff", "format", "--check", "--quiet"),
        ("mypy", "mypy", "--no-error-summary", *TYPED),
    )
    failed = [check[0] for check in checks if not _passes(*check)]
    if failed:
        say(f"error: {', '.join(failed)} found something to mend; see above")
    return 1 if failed else 0


def test(arguments: list[str]) -> int:
    """Lint, then run every test; pytest's summary, with its time, is the last thing printed."""
    failed = lint()
    if failed:
        return failed
    say("==> pytest (usually 15 to 25 minutes)")
    # Without CI among the variables, pytest ends with a line for each failure, not with a page.
    brief = {name: value for name, value in os.environ.items() if name not in LOUD}
    return _run("pytest", *PYTEST, *arguments, env={**brief, "COLUMNS": "160"})


def bench() -> int:
    """Measure the lag; return the exit code of bench/lag.py."""
    stack.prepare(dev=True)
    return _run("python", "-m", "bench.lag")


def lock() -> None:
    """Resolve the requirement files anew from pyproject.toml, with hashes and without addresses."""
    stack.prepare(dev=True)
    for name, group in (("requirements.txt", []), ("requirements-dev.txt", ["--group", "dev"])):
        with step(f"locking {name}", "10 s"):
            _compile(name, *group)


def _run(program: str, *arguments: str, env: Mapping[str, str] = os.environ) -> int:
    """Run a program of .venv with the tools on PATH, and nothing else changed; return its code."""
    return watch(
        [project.VENV / "bin" / program, *arguments],
        cwd=project.ROOT,
        env={**env, "PATH": environment.path(env)},
    )


def _passes(name: str, program: str, *arguments: str) -> bool:
    with step(name):
        return not _run(program, *arguments)


def _compile(target: str, *arguments: str) -> None:
    uv = [str(project.VENV / "bin" / "uv"), "pip", "compile", "--quiet", "--upgrade"]
    pins = ["--python-version", "3.11", "--universal", "--generate-hashes"]
    bare = ["--no-header", "--no-annotate", "--output-file", target]
    try:
        output([*uv, "pyproject.toml", *arguments, *pins, *bare], cwd=project.ROOT)
    except ToolError as error:
        raise ToolError(f"{target} could not be pinned: {error}") from error
