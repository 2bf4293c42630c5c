"""Names that buckets, sites, rules, stacks and tags may have. Pure.

Each function returns what is wrong with one, worded as what to do, or None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

PLAIN = "lower-case letters, digits and hyphens, beginning and ending with a letter or digit"
NAME_LENGTH = 32
STACK_LENGTH = 30  # with a hyphen and a site's name it still makes a bucket's name

# From "Categorizing your objects using tags" in Amazon's S3 user guide; an object has no more.
MOST_TAGS, TAG_NAME, TAG_VALUE = 10, 128, 256

_PLAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)

# From Amazon's "General purpose bucket naming rules"; other S3 servers ask for a part of these.
# A good name matches each pattern; the first that it does not match says what to do.
_BUCKET_RULES = tuple(
    (re.compile(pattern, re.ASCII | re.DOTALL), fix)
    for pattern, fix in (
        (r".{3,63}", "use 3 to 63 characters"),
        (r"[a-z0-9.-]*", "use lower-case letters, digits, dots and hyphens only"),
        (r"[^.-].*[^.-]", "begin and end with a letter or digit"),
        (r"(?!.*\.\.).*", "use no two dots in a row"),
        (r"(?!\d+\.\d+\.\d+\.\d+$).*", "use a name that does not look like an IP address"),
    )
)
_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def plain_fault(name: str, length: int = NAME_LENGTH) -> str | None:
    """Judge the name of a site, a rule or a stack, which also names streams, subjects and files."""
    if len(name) <= length and _PLAIN.fullmatch(name):
        return None
    return f"use 1 to {length} {PLAIN}"


def bucket_fault(name: str) -> str | None:
    """Judge the name of a bucket by all of S3's rules."""
    for rule, fix in _BUCKET_RULES:
        if not rule.fullmatch(name):
            return fix
    for reserved in _RESERVED_PREFIXES:
        if name.startswith(reserved):
            return f'use another beginning, S3 reserves "{reserved}"'
    for reserved in _RESERVED_SUFFIXES:
        if name.endswith(reserved):
            return f'use another ending, S3 reserves "{reserved}"'
    return None


def tags_fault(tags: Mapping[str, str]) -> str | None:
    """Judge tags by the bounds that S3 sets to those of an object."""
    for name, value in tags.items():
        if not 0 < len(name) <= TAG_NAME:
            return f"use tags with names of 1 to {TAG_NAME} characters, not {len(name)}"
        if len(value) > TAG_VALUE:
            return f"use values of at most {TAG_VALUE} characters, not {len(value)}"
    return f"use at most {MOST_TAGS} tags, not {len(tags)}" if len(tags) > MOST_TAGS else None
