"""The command `tandem`."""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tandem.cli import (
    bucket,
    doctor,
    failures,
    ls,
    put,
    reconcile,
    redrive,
    status,
    sweep,
    sync,
    verify,
    why,
)
from tandem.cli.stack import Refused
from tandem.cli.terminal import warn
from tandem.errors import TandemError
from tandem.report import printable

DEBUG_VARIABLE = "TANDEM_DEBUG"
CANNOT = 2


class _Plainly(TyperGroup):
    """Tell an expected failure in one line on standard error, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (TandemError, Refused) as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            warn(f"tandem: {printable(str(error))}", style="red")
            raise typer.Exit(CANNOT) from None


app = typer.Typer(
    cls=_Plainly,
    rich_markup_mode=None,  # plain text wraps well, and pipes well
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "\b\n"
        "Try these first:\n"
        "  tandem status\n"
        "  tandem put source hello.txt README.md --wait\n"
        "  tandem verify\n\n"
        "Exit codes: 0 all is well; 1 something differs or failed; 2 the command could not do "
        "its work. TANDEM_DEBUG=1 shows tracebacks."
    ),
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import (  # noqa: PLC0415 -- slow to import, seldom wanted
            PackageNotFoundError,
            version,
        )

        try:
            number = version("tandem")
        except PackageNotFoundError:
            number = "(from its source folder; not installed)"
        typer.echo(f"tandem {number}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    stack: Annotated[
        str | None,
        typer.Option(
            "--stack",
            metavar="NAME",
            help="The stack to work on, where more than one is up.",
        ),
    ] = None,
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Keep buckets in step: see how they are doing, bring them level, mend what failed.

    The stack is found by itself after `make up` or `pulumi up`: its settings lie in
    `.tandem/STACK/tandem.json` of this folder or of one above it, or where $TANDEM_SETTINGS
    points. Every command takes `--json`.
    """
    del show_version  # its callback has answered
    context.obj = stack
    # What a library logs on the way to an error is said by that error, in one line.
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        # A key may hold what the terminal's encoding does not.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


app.command(short_help="How each rule is doing.", epilog=status.EXAMPLES)(status.status)
app.command(short_help="Whether the stack can work, and how.", epilog=doctor.EXAMPLES)(
    doctor.doctor
)
app.command(short_help="Report what differs.", epilog=verify.EXAMPLES)(verify.verify)
app.command(short_help="Bring existing objects level.", epilog=sync.EXAMPLES)(sync.sync)
app.command(short_help="Queue changes for what may differ.", epilog=reconcile.EXAMPLES)(
    reconcile.reconcile
)
app.command(short_help="Explain one key.", epilog=why.EXAMPLES)(why.why)
app.command(short_help="Show the work that failed.", epilog=failures.EXAMPLES)(failures.errors)
app.command(short_help="Put failed work back.", epilog=redrive.REDRIVE_EXAMPLES)(redrive.redrive)
app.command(short_help="Throw failed work away.", epilog=redrive.DISCARD_EXAMPLES)(redrive.discard)
app.command(short_help="Abort uploads left behind.", epilog=sweep.EXAMPLES)(sweep.sweep)
app.command(short_help="List sites, or objects.", epilog=ls.EXAMPLES)(ls.ls)
app.command(short_help="Put an object, and watch it arrive.", epilog=put.EXAMPLES)(put.put)
app.command("rm-bucket", short_help="Empty a bucket and delete it.", epilog=bucket.EXAMPLES)(
    bucket.rm_bucket
)

if __name__ == "__main__":
    app(prog_name="tandem")
