"""What the command writes: plain lines that pipe well, colour only on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console

# Nothing is wrapped, highlighted or taken for markup: a key is printed as it is.
out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
err = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document; keys are exact.")]
Rules = Annotated[
    list[str] | None,
    typer.Argument(metavar="RULE", help="The rules to go by; all by default."),
]
Target = Annotated[
    str | None, typer.Option("--target", metavar="SITE", help="Only this target of each rule.")
]


def say(text: str = "", style: str | None = None) -> None:
    """Print one line to standard output."""
    out.print(text, style=style)


def warn(text: str, style: str | None = None) -> None:
    """Print one line to standard error."""
    err.print(text, style=style)


def ask(question: str) -> str:
    """Ask on standard error, and return the line that is typed; nothing where nobody answers."""
    err.print(question, end=" ")
    return sys.stdin.readline().strip()


def document(data: Any) -> None:
    """Print one JSON document to standard output."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def columns(
    rows: Iterable[Sequence[str]], *, head: Sequence[str] = (), right: Collection[int] = ()
) -> None:
    """Print rows in columns as wide as they must be; those numbered in `right` end flush."""
    body = [list(row) for row in rows]
    table = [list(head), *body] if head else body
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    for number, row in enumerate(table):
        cells = [
            " " * (width - cell_len(cell)) + cell
            if place in right
            else cell + " " * (width - cell_len(cell))
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        say("  ".join(cells).rstrip(), style="bold" if head and number == 0 else None)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, such as `1 key` or `2,000 keys`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
