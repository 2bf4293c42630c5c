"""What `make test`, `make lint`, `make bench` and `make lock` do, each step with its time."""

import os

from tools import environment, project, stack
from tools.steps import ToolError, output, say, step, watch

TYPED = ("function_src", "stacks", "tools")


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
    say("==> pytest (usually 1 to 5 minutes)")
    return _run("pytest", "-n", "2", "--dist", "loadfile", "-q", *arguments)


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


def _run(program: str, *arguments: str) -> int:
    """Run a program of .venv with the tools on PATH, and nothing else changed; return its code."""
    return watch(
        [project.VENV / "bin" / program, *arguments],
        cwd=project.ROOT,
        env={**os.environ, "PATH": environment.path(os.environ)},
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
