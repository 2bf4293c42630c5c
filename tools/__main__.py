"""The command `python3 -m tools`: what the Makefile calls."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable
from types import FrameType

from tools import checks, environment, stack
from tools.steps import ToolError, say

Run = Callable[[argparse.Namespace], int | None]


def main(arguments: list[str]) -> int:
    """Run one command, and return the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    chosen = _parser().parse_args(arguments)
    try:
        return chosen.run(chosen) or 0
    except ToolError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted. The same command takes up where this one stopped.")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m tools", description="Set Tandem up, run its stacks, and check it."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, purpose: str, run: Run) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=purpose, description=purpose)
        command.set_defaults(run=run)
        return command

    installs = add(
        "install",
        "make .venv, and get the tools that it cannot hold",
        lambda chosen: stack.prepare(dev=chosen.dev),
    )
    installs.add_argument("--dev", action="store_true", help="with all that the tests need")
    for command in (
        add(
            "up",
            "install what is missing, then stand a stack up and show that it works",
            lambda chosen: stack.up(chosen.stack),
        ),
        add("down", "take a stack down", lambda chosen: stack.down(chosen.stack)),
        add(
            "env",
            "print the variables with which plain pulumi commands find the same state and tools",
            lambda chosen: _print_environment(chosen.stack),
        ),
    ):
        command.add_argument("--stack", default="local", help="the stack (default: local)")
    tests = add(
        "test",
        "install what is missing, then check and test everything",
        lambda chosen: checks.test(chosen.pytest),
    )
    tests.add_argument("pytest", nargs="*", help="given to pytest, after --")
    add("lint", "check style and types", lambda _: checks.lint())
    add("bench", "measure the lag, beside MinIO's own replication", lambda _: checks.bench())
    add("lock", "pin the requirement files anew", lambda _: checks.lock())
    return parser


def _print_environment(name: str) -> None:
    """Print export lines for `eval "$(python3 -m tools env)"`."""
    variables = environment.for_pulumi(os.environ) | {"PULUMI_STACK": name}
    for variable, value in variables.items():
        print(f"export {variable}={shlex.quote(value)}")  # noqa: T201  # the command's result


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
