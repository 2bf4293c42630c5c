"""Tell what is being done and how long it took; run a program for what it prints."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path


class ToolError(Exception):
    """Something that this machine lacks or refuses, told so that its reader can act on it."""


def say(line: str) -> None:
    """Print one line of progress on standard error; standard output is for results."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201  # a command's progress


@contextlib.contextmanager
def step(what: str, usually: str = "") -> Iterator[None]:
    """Say what begins, and its duration in seconds once it has ended well."""
    say(f"==> {what}" + (f" (usually {usually})" if usually else ""))
    began = time.monotonic()
    yield
    say(f"    {what}: {time.monotonic() - began:.1f} s")


def watch(
    argv: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str],
    started: Callable[[int], None] = lambda _pid: None,
) -> int:
    """Run a program that speaks for itself, and return its exit code once it has ended in its way.

    It leads a session of its own, so that Ctrl-C reaches it once, through us, and never cuts its
    clearing up short; `started` is called with its pid. Raises KeyboardInterrupt when it has ended,
    if it was interrupted.
    """
    process = subprocess.Popen(  # noqa: S603  # the callers' own command lines, never a shell
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    started(process.pid)
    interrupted = False
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            say("    stopping when what is under way has ended; Ctrl-C again stops sooner")
            process.send_signal(signal.SIGINT)
            interrupted = True
        else:
            break
    if interrupted:
        raise KeyboardInterrupt
    return code


def output(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    told: int = 1,
) -> str:
    """Run a program, in `env` or else in our own environment, and return its standard output.

    Raises ToolError, with the last `told` lines that the program wrote, when it cannot be started,
    fails or takes longer than `timeout` seconds.
    """
    name = Path(argv[0]).name
    try:
        done = subprocess.run(  # noqa: S603  # the callers' own command lines, never a shell
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except OSError as error:
        raise ToolError(f"{name} could not be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{name} gave no answer within {timeout:.0f} s") from error
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        end = "\n".join(lines[-told:])
        raise ToolError(end or f"{name} ended with exit code {done.returncode}")
    return done.stdout
