"""The folder of a stack, in which its servers keep their data."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from pulumi import Output, ResourceOptions
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from stacks.local.paths import ROOT
from stacks.local.provider import Properties, Provider, gone, unchanged, warn

MODE = 0o700
METRICS = "metrics"
# What the processes leave: logs, what workers measured, when the service reconciled and swept, and
# where an interrupted reconcile or `tandem sync` stood, which says nothing about buckets of another
# life.
LEFTOVERS = ("*.log*", "*.ready", "sync-*.json", "reconcile*", "sweep.*", METRICS)
# Servers' own folders, and what in them is data: a bucket, a stream.
SERVERS = ("minio-*", "nats")
DATA = ("minio-*/data/[!.]*", "nats/jetstream/*/streams/*")


def sweep(folder: Path, disposable: Sequence[str]) -> list[str]:
    """Remove what is in a stack's folder, but no server that still holds data.

    `disposable` are patterns of data that may go with it. What no process of the stack wrote is
    left alone. Returns the data that was kept, relative to the folder.
    """
    data = (path.relative_to(folder) for pattern in DATA for path in folder.glob(pattern))
    kept = sorted(path for path in data if not any(path.match(pattern) for pattern in disposable))
    keeping = {path.parts[0] for path in kept}
    for pattern in (*LEFTOVERS, *SERVERS):
        for path in folder.glob(pattern):
            if path.name not in keeping:
                _remove(path)
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
    return [str(path) for path in kept]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class FolderProvider(Provider):
    """Make a stack's folder, and remove what its processes left there."""

    inputs = ("path", "disposable")
    replacing = ("path",)

    def create(self, props: Properties) -> CreateResult:
        """Make the folder, readable for its owner only."""
        path = ROOT / props["path"]
        (path / METRICS).mkdir(parents=True, exist_ok=True)
        path.chmod(MODE)
        return CreateResult(props["path"], dict(props))

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Look whether the folder is there."""
        there = (ROOT / props["path"] / METRICS).is_dir()
        return unchanged(id_, props) if there else gone()

    def update(self, _id: str, _olds: Properties, news: Properties) -> UpdateResult:
        """Remember what may go."""
        return UpdateResult(dict(news))

    def delete(self, _id: str, props: Properties) -> None:
        """Remove the folder; what still holds data is kept, with a word about it."""
        if kept := sweep(ROOT / props["path"], props["disposable"]):
            warn(
                f"kept in {props['path']}: {', '.join(kept)}. The next `up` finds it there; to "
                f"have it deleted, set forceDestroy to true, `up`, and then `destroy`"
            )


class Folder(Resource, module="local", name="Folder"):
    """A folder for the processes of a stack; `path` is relative to the project.

    `disposable` are patterns of data, relative to it, that may be removed with it.
    """

    path: Output[str]

    def __init__(
        self,
        name: str,
        path: str,
        disposable: Sequence[str],
        opts: ResourceOptions | None = None,
    ) -> None:
        properties: dict[str, Any] = {"path": path, "disposable": list(disposable)}
        super().__init__(FolderProvider(), name, properties, opts)


def bucket_data(server: str, bucket: str) -> str:
    """Return the pattern of a bucket's data on the server of that name."""
    return str(PurePath(server) / "data" / bucket)


STREAMS = DATA[1]
