"""A file that only its owner may read."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

from pulumi import Input, Output, ResourceOptions
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from stacks.local.paths import ROOT
from stacks.local.provider import Properties, Provider, gone

MODE = 0o600


def write_private(path: Path, content: str) -> None:
    """Write a file of mode 0600 so that a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 -- a descriptor
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


class PrivateFileProvider(Provider):
    """Keep a file as it was written."""

    inputs = ("path", "content")
    replacing = ("path",)

    def create(self, props: Properties) -> CreateResult:
        """Write the file."""
        write_private(ROOT / props["path"], props["content"])
        return CreateResult(props["path"], dict(props))

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Look at what the file says now; one that others may read counts as changed."""
        path = ROOT / props["path"]
        try:
            content = path.read_text(encoding="utf-8")
            private = stat.S_IMODE(path.stat().st_mode) == MODE
        except FileNotFoundError:
            return gone()
        return ReadResult(id_, {**props, "content": content if private else ""})

    def update(self, _id: str, _olds: Properties, news: Properties) -> UpdateResult:
        """Write the file anew."""
        write_private(ROOT / news["path"], news["content"])
        return UpdateResult(dict(news))

    def delete(self, _id: str, props: Properties) -> None:
        """Remove the file."""
        (ROOT / props["path"]).unlink(missing_ok=True)


class PrivateFile(Resource, module="local", name="PrivateFile"):
    """A file of mode 0600, written whole or not at all; `path` is relative to the project.

    `digest` tells one content from another without giving any of it away: whoever reads the file
    at its start takes it as an input, and is restarted when it changes.
    """

    path: Output[str]
    digest: Output[str]

    def __init__(
        self, name: str, path: str, content: Input[str], opts: ResourceOptions | None = None
    ) -> None:
        secret = Output.secret(content)
        properties: dict[str, Any] = {"path": path, "content": secret}
        super().__init__(PrivateFileProvider(), name, properties, opts)
        self.digest = Output.unsecret(secret.apply(digest_of))


def digest_of(content: str) -> str:
    """Return the SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(content.encode()).hexdigest()
