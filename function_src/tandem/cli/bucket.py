"""`tandem rm-bucket`: empty a bucket and delete it."""

from __future__ import annotations

from typing import Annotated

import typer

from tandem.cli.stack import Refused, Stack
from tandem.cli.terminal import Json, ask, counted, document, say, warn
from tandem.settings import Site

EXAMPLES = (
    "\b\n"
    "Examples:\n"
    "  tandem rm-bucket target --dry-run    count what would be lost\n"
    "  tandem rm-bucket target              asks first\n"
    "  tandem rm-bucket target --yes"
)


def rm_bucket(
    context: typer.Context,
    site: Annotated[str, typer.Argument(metavar="SITE", help="The site whose bucket goes.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be lost; do nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete the bucket of a site with everything in it: it cannot be undone.

    Every version, every delete marker and every unfinished upload goes, then the bucket itself.
    Asks for the bucket's name unless told `--yes`.
    """
    place = Stack.of(context).site(site)
    if not (yes or dry_run):
        _confirm(place)
    from tandem.cli.emptying import Emptying  # noqa: PLC0415 -- `--help` needs no boto3

    emptying = Emptying(place)
    counts = emptying.count() if dry_run else emptying.run()
    if as_json:
        document({"site": site, "bucket": place.bucket, "dry_run": dry_run, **counts})
        return
    what = ", ".join(
        [
            counted(counts["versions"], "version"),
            counted(counts["delete_markers"], "delete marker"),
            counted(counts["uploads"], "unfinished upload"),
        ]
    )
    say(f"{place.bucket}: {what} {'would be ' if dry_run else ''}deleted, and the bucket with them")


def _confirm(place: Site) -> None:
    """Ask for the bucket's name; raises `Refused` if anything else is typed."""
    warn(f"This deletes the bucket {place.bucket} at {place.endpoint} and everything in it.")
    if ask("Type the bucket's name to go on:") != place.bucket:
        raise Refused(f"{place.bucket} was not deleted: another name was typed")
