"""Mistakes in a stack's configuration, one line each: the key, its value and the fix. Pure."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

# The type of the errors that our own validators raise; their message is the fix.
FIX = "fix"

Path = tuple[str | int, ...]
Schema = Mapping[str, Any]

_SHOWN_LENGTH = 60
_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Mistake:
    """Say where a mistake is, what is there, and what to do about it."""

    path: Path
    state: str
    fix: str

    def line(self, project: str, secret: Collection[str] = ()) -> str:
        """Return the mistake as one line, without its value if that is secret."""
        key = f"{project}:{spelled(self.path)}"
        if f"{project}:{self.path[0]}" in secret:
            return f"{key} has a secret value that will not do: see docs/settings.md"
        return f"{key} {self.state}: {self.fix}"


def spelled(path: Path) -> str:
    """Return a path as `pulumi config --path` takes it, such as `rules[0].targets[1]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _SIMPLE_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part, ensure_ascii=False)}]"
    return text


def shown(value: object) -> str:
    """Return a value as JSON, cut short where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[: _SHOWN_LENGTH - 1]}…"


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return a fix for a word that is not among the known: the nearest one, or else all of them."""
    choices = list(known)
    if near := difflib.get_close_matches(word, choices, n=1):
        return f"did you mean {near[0]}?"
    return f"use one of {', '.join(choices)}"


def explain(error: ErrorDetails, schema: Schema) -> Mistake:
    """Return what pydantic found, in our words; `schema` is the model's JSON schema."""
    path = error["loc"]
    if path[-1] == "[key]":
        return Mistake(path[:-1], "has a name that will not do", error["msg"])
    match error["type"]:
        case "extra_forbidden":
            known = _node(schema, path[:-1])["properties"]
            return Mistake(path, "is unknown", suggestion(str(path[-1]), known))
        case "missing":
            return Mistake(path, "is missing", f"use {_expected(schema, path)}")
        case kind:
            fix = error["msg"] if kind == FIX else f"use {_expected(schema, path)}"
            return Mistake(path, f"is {shown(error['input'])}", fix)


def _expected(schema: Schema, path: Path) -> str:
    node = _node(schema, path)
    if properties := node.get("properties"):
        return f"a mapping with the keys {', '.join(properties)}"
    description: str = node["description"]
    return description


def _node(schema: Schema, path: Path) -> Schema:
    """Return the part of a JSON schema that describes what lies at `path`."""
    node = schema
    for part in path:
        if isinstance(part, int):
            node = node["items"]
        else:
            node = node.get("properties", {}).get(part) or node["additionalProperties"]
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return node
