"""Which keys a server can keep under the very name they were given. Pure.

A key that a server would refuse, or worse, store under another name, is refused here, before any
request. The rules for MinIO were found by putting such keys to a server and listing what it kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tandem.change import Dialect

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255
# MinIO keeps `name/` in a folder called so, and takes a segment that ends so for such a folder.
MINIO_FOLDER_MARK = "__XLDIR__"

Flaws = tuple[tuple[str, Callable[[str], bool]], ...]


def _has_dots(key: str) -> bool:
    return "." in key and not {".", ".."}.isdisjoint(key.split("/"))


def _has_blank_dots(key: str) -> bool:
    # MinIO takes a backslash for a / here, and strips blanks before it looks.
    return "." in key and any(
        segment.strip() in {".", ".."} for segment in key.replace("\\", "/").split("/")
    )


def _has_long_segment(key: str) -> bool:
    # No character takes more than four bytes, so a short key need not be cut up.
    return len(key) * 4 > MAX_SEGMENT_BYTES and any(
        len(segment.encode()) > MAX_SEGMENT_BYTES for segment in key.split("/")
    )


def _has_long_folder(key: str) -> bool:
    return key.endswith("/") and _has_long_segment(key[:-1] + MINIO_FOLDER_MARK)


def _has_folder_mark(key: str) -> bool:
    return MINIO_FOLDER_MARK in key and f"{MINIO_FOLDER_MARK}/" in f"{key}/"


def _has_unlistable(key: str) -> bool:
    return any((mark < " " and mark not in "\t\n\r") or mark in "\ufffe\uffff" for mark in key)


# What a key must not have where keys are paths in a file system, each with a name that follows
# the words "it has".
_IN_FOLDERS: Flaws = (
    ("a leading /", lambda key: key[0] == "/"),
    ("//", lambda key: "//" in key),
    ("a segment . or ..", _has_dots),
    (f"a segment over {MAX_SEGMENT_BYTES} bytes", _has_long_segment),
    ("a NUL", lambda key: "\0" in key),
)
FLAWS: Mapping[Dialect, Flaws] = {
    "aws": (),
    "minio": (
        *_IN_FOLDERS,
        ("a segment . or .. between blanks or backslashes", _has_blank_dots),
        (f"a segment that ends with {MINIO_FOLDER_MARK}", _has_folder_mark),
        ("a segment before a trailing / that is over 246 bytes", _has_long_folder),
    ),
    "versitygw": (*_IN_FOLDERS, ("a character that XML 1.0 cannot list", _has_unlistable)),
}


def flaw(key: str, dialect: Dialect) -> str | None:
    """Return what a key has that a server of `dialect` cannot keep, or None if it can keep it."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "half of a surrogate pair, which UTF-8 cannot say"
    if not 0 < size <= MAX_KEY_BYTES:
        return f"{size} bytes, and 1 to {MAX_KEY_BYTES} can be kept"
    for name, is_in in FLAWS[dialect]:
        if is_in(key):
            return name
    return None


def unrepresentable(dialect: Dialect) -> tuple[str, ...]:
    """Return, in words, what keys must not have on a server of `dialect`."""
    return tuple(name for name, _ in FLAWS[dialect])
