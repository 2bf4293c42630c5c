"""What the dynamic providers of the topology `local` have in common.

Pulumi keeps a provider by the name of its class, since the class can be imported: a change of its
code makes no difference to the resources there are. Its process runs in the project's folder.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from pulumi.dynamic import DiffResult, ReadResult, ResourceProvider

Properties = dict[str, Any]


class Provider(ResourceProvider):
    """Update a resource when one of its inputs changes, or replace it where it cannot change."""

    # No secret is in a provider itself; inputs that are secret stay so.
    serialize_as_secret_always = False
    inputs: ClassVar[tuple[str, ...]] = ()
    replacing: ClassVar[tuple[str, ...]] = ()

    def diff(self, _id: str, olds: Properties, news: Properties) -> DiffResult:
        """Compare what was asked for, or was found by `read`, with what is asked for now."""
        changed = {key for key in self.inputs if olds.get(key) != news.get(key)}
        return DiffResult(
            changes=bool(changed),
            replaces=[key for key in self.replacing if key in changed],
            delete_before_replace=True,
        )


def unchanged(id_: str, properties: Mapping[str, Any]) -> ReadResult:
    """Say that a resource is as it was, or that it cannot be told."""
    return ReadResult(id_, dict(properties))


def gone() -> ReadResult:
    """Say that a resource is not there any more, so that the next `up` makes it again."""
    return ReadResult("", {})


def warn(message: str) -> None:
    """Show a message among Pulumi's diagnostics: it shows what a provider writes to stderr."""
    sys.stderr.write(f"warning: {message}\n")
    sys.stderr.flush()
