"""A hard working day for a bucket: odd keys, all sizes, puts, overwrites and deletes at once.

Everything here goes through boto3, so that nothing of Tandem's own judges Tandem.
"""

from __future__ import annotations

import hashlib
import random
import string
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

from botocore.exceptions import ClientError

from tandem.stores.base import SCRATCH
from tests.conftest import client_of
from tests.servers import Minio

KIB, MIB = 1024, 1024 * 1024
CLIENTS = 16

ODD_KEYS = (
    "a+b c",
    "%3A",
    "a%2Fb",
    "100%",
    normalize("NFC", "crème/brûlée"),
    normalize("NFD", "crème/brûlée"),
    "日本語/キー",
    "emoji/🦀",
    "trail/",
    "deep/er/and/deeper/still",
    "tab\there",
    "/".join(["s" * 255] * 4)[:1024],
    *(f"punctuation/{mark}x" for mark in string.punctuation if mark != "/"),
    *(f"punctuation/x{mark}" for mark in string.punctuation if mark != "/"),
    "punctuation/" + string.punctuation.replace("/", ""),
)

# How many objects of which size in bytes: most are small, as in life.
SIZES = (
    (60, 0),
    (900, KIB),
    (600, 4 * KIB),
    (300, 64 * KIB),
    (100, MIB),
    (25, 5 * MIB + 1),
    (10, 17 * MIB),
    (4, 40 * MIB),
    (1, 200 * MIB),
)


@dataclass(frozen=True)
class Item:
    """One key of the workload, and how large its object is."""

    key: str
    size: int


def items(seed: int) -> list[Item]:
    """Return 2,000 keys with their sizes; odd keys get small objects."""
    sizes = [size for count, size in SIZES for _ in range(count)]
    chance = random.Random(seed)
    plain = [
        f"{chance.choice(['in', 'out', 'archive/2026'])}/object-{number:04}.bin"
        for number in range(len(sizes) - len(ODD_KEYS))
    ]
    small = sorted(sizes)
    keys = [*ODD_KEYS, *plain]
    made = [Item(key, size) for key, size in zip(keys, small, strict=True)]
    chance.shuffle(made)
    return made


def body(size: int, chance: random.Random) -> bytes:
    """Return bytes that differ from call to call, cheaply."""
    block = chance.randbytes(min(size, 64 * KIB))
    return (block * (size // max(len(block), 1) + 1))[:size]


def attributes(chance: random.Random) -> dict[str, Any]:
    """Return arguments of put_object: some headers, metadata and tags, or none."""
    found: dict[str, Any] = {}
    if chance.random() < 0.5:
        found["ContentType"] = chance.choice(["text/plain", "image/png", "application/x-odd"])
    if chance.random() < 0.3:
        found["CacheControl"] = f"max-age={chance.randrange(1000)}"
    if chance.random() < 0.2:
        found["ContentDisposition"] = 'attachment; filename="a b.txt"'
        found["ContentLanguage"] = "en-GB"
    if chance.random() < 0.1:
        found["ContentEncoding"] = "gzip"  # a claim about bytes that must arrive untouched
    if chance.random() < 0.4:
        found["Metadata"] = {"owner": f"user-{chance.randrange(9)}", "note": "two words"}
    if chance.random() < 0.3:
        found["Tagging"] = f"team=t{chance.randrange(9)}&stage=a%20b"
    return found


def patiently(call: Callable[..., Any], **arguments: Any) -> Any:
    """Call again where MinIO says IncompleteBody, as this build does once in thousands of puts."""
    while True:
        try:
            return call(**arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] != "IncompleteBody":
                raise


def put(client: Any, bucket: str, item: Item, chance: random.Random) -> None:
    """Put an object, in parts if it is large."""
    extra = attributes(chance)
    if item.size <= 16 * MIB:
        data = body(item.size, chance)
        patiently(client.put_object, Bucket=bucket, Key=item.key, Body=data, **extra)
        return
    place = {"Bucket": bucket, "Key": item.key}
    upload = {**place, "UploadId": client.create_multipart_upload(**place, **extra)["UploadId"]}
    parts = []
    for number, first in enumerate(range(0, item.size, 8 * MIB), 1):
        data = body(min(8 * MIB, item.size - first), chance)
        sent = patiently(client.upload_part, **upload, PartNumber=number, Body=data)
        parts.append({"PartNumber": number, "ETag": sent["ETag"]})
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


def work(server: Minio, bucket: str, plan: Iterable[Item], seed: int) -> None:
    """Put every item, and overwrite or delete some, by 16 clients that share the keys."""
    rest, lock = iter(list(plan)), threading.Lock()
    done: list[Item] = []
    client = client_of(server)

    def one(number: int) -> None:
        chance = random.Random(seed * 100 + number)
        while True:
            with lock:
                item = next(rest, None)
                earlier = chance.choice(done) if done and chance.random() < 0.3 else None
            if item is None:
                return
            put(client, bucket, item, chance)
            with lock:
                done.append(item)
            if earlier is None:
                continue
            if chance.random() < 0.4:
                client.delete_object(Bucket=bucket, Key=earlier.key)
            # An empty object may be put the same once more: it is equal, and rests, though its copy
            # is older than itself then, which counts as a difference with `mc diff`.
            elif 0 < earlier.size <= MIB:
                put(client, bucket, earlier, chance)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(one, range(CLIENTS)))
    client.close()


def contents(server: Minio, bucket: str) -> dict[str, tuple[Any, ...]]:
    """Return all that a bucket holds, read by boto3: digest, headers, metadata and tags by key.

    Without what Tandem keeps for itself: on a slow machine a target may be asked still, what it can
    do, when others look at it.
    """
    client = client_of(server)

    def read(key: str) -> tuple[Any, ...]:
        found = client.get_object(Bucket=bucket, Key=key)
        digest = hashlib.sha256()
        for chunk in found["Body"].iter_chunks(MIB):
            digest.update(chunk)
        headers = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage")
        metadata = {
            name: value
            for name, value in found["Metadata"].items()
            if not name.startswith("tandem-")
        }
        tags = client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
        return (
            digest.hexdigest(),
            found["ContentLength"],
            found["ContentType"],
            *(found.get(name) for name in headers),
            tuple(sorted(metadata.items())),
            tuple(sorted((tag["Key"], tag["Value"]) for tag in tags)),
        )

    keys = [
        entry["Key"]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for entry in page.get("Contents", ())
        if not entry["Key"].startswith(SCRATCH)
    ]
    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(keys, pool.map(read, keys), strict=True))
    client.close()
    return found


def uploads(server: Minio, bucket: str, keys: Iterable[str]) -> list[str]:
    """Return the keys among `keys` that have an unfinished upload; MinIO wants them one by one."""
    client = client_of(server)
    listed: Callable[[str], Any] = lambda key: client.list_multipart_uploads(  # noqa: E731 -- a call with one argument, for map
        Bucket=bucket, Prefix=key
    ).get("Uploads")
    with ThreadPoolExecutor(8) as pool:
        found = [key for key, any_ in zip(keys, pool.map(listed, keys), strict=True) if any_]
    client.close()
    return found
