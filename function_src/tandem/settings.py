"""The file that tells workers, the service and the command about their stack.

`pulumi up` writes it; it holds credentials, so only its owner may read it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from tandem.change import Dialect
from tandem.rule import Group, Rule

ENVIRONMENT_VARIABLE = "TANDEM_SETTINGS"
FILE_NAME = "tandem.json"
# The units of time in settings and on the command line, in seconds.
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# How many outcomes of a key are remembered for each rule and target, and how many failed attempts.
HISTORY = 5


@dataclass(frozen=True, slots=True)
class Site:
    """Name a bucket on a provider, and how to reach it."""

    name: str
    bucket: str
    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    dialect: Dialect = "minio"


@dataclass(frozen=True, slots=True)
class JetStream:
    """Name the streams of one stack on a NATS server.

    Changes arrive under `<subject>.<site>.<origin>` in the stream `changes`; failures lie under
    `<stream>-<class>` in a stream for each error class; outcomes are told on core NATS, undurably,
    and the stream `outcomes` keeps the last HISTORY of each subject.
    """

    url: str
    user: str
    password: str = field(repr=False)
    stack: str

    @property
    def changes(self) -> str:
        """Return the name of the stream of changes."""
        return f"{self.stack}-changes"

    @property
    def consumer(self) -> str:
        """Return the name of the durable consumer that all workers share."""
        return "workers"

    def subject(self, site: str, origin: str) -> str:
        """Return the subject of changes of `site` that come from `origin` (fast, durable, …)."""
        return f"tandem.{self.stack}.changes.{site}.{origin}"

    def errors(self, error_class: str) -> str:
        """Return the name of the error stream of a class."""
        return f"{self.stack}-errors-{error_class}"

    def error_subject(self, error_class: str, rule: str = "*") -> str:
        """Return the subject of failures of a class under a rule; by default, under any."""
        return f"tandem.{self.stack}.errors.{error_class}.{rule}"

    @property
    def outcomes(self) -> str:
        """Return the name of the stream of outcomes."""
        return f"{self.stack}-outcomes"

    def outcome_subject(
        self, rule: str = "*", target: str = "*", key: str = "*", ending: str = "*"
    ) -> str:
        """Return the subject of attempts that ended so; by default, of any.

        `key` is a hash of the key, `ending` is `ended` or `failed`.
        """
        return f"tandem.{self.stack}.outcomes.{rule}.{target}.{key}.{ending}"


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Say how often, in seconds, the service reconciles; 0 is never.

    `thorough` doubts pairs too whose size and ETag agree.
    """

    every: float = 3600.0
    thorough: bool = False


@dataclass(frozen=True, slots=True)
class Sweep:
    """Say how often, in seconds, the service sweeps; 0 is never.

    Uploads are looked into in which nothing has moved for `older_than` seconds.
    """

    every: float = 86400.0
    older_than: float = 86400.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Hold everything a running replicator knows of its stack."""

    stack: str
    sites: Mapping[str, Site]
    rules: tuple[Rule, ...]
    queue: JetStream
    service_url: str = ""
    reconcile: Reconcile = Reconcile()
    sweep: Sweep = Sweep()

    def dump(self) -> str:
        """Return the settings as the JSON text that `parse` reads."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read settings from JSON.

        Raises ValueError, naming what is wrong, if the text is not such a document.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            return cls(
                stack=raw["stack"],
                sites={name: Site(**site) for name, site in raw["sites"].items()},
                rules=tuple(_rule(rule) for rule in raw["rules"]),
                queue=JetStream(**raw["queue"]),
                service_url=raw["service_url"],
                reconcile=Reconcile(**raw.get("reconcile", {})),
                sweep=Sweep(**raw.get("sweep", {})),
            )
        except (KeyError, TypeError, AttributeError) as error:
            message = f"these are not a stack's settings: {error!r}"
            raise ValueError(message) from error


def _rule(raw: Mapping[str, Any]) -> Rule:
    groups = tuple(Group(**group) for group in raw.get("groups", ()))
    return Rule(**{**raw, "targets": tuple(raw["targets"]), "groups": groups})


def seconds(text: str) -> float:
    """Return how many seconds a text such as `90s`, `10m`, `2h` or `1d` means.

    Raises ValueError, saying what is understood.
    """
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smhd])", text.strip())
    if not match:
        raise ValueError(f"{text!r} is no duration: write a number and s, m, h or d, such as 10m")
    return float(match[1]) * UNITS[match[2]]


def find(stack: str | None = None, start: Path | None = None) -> Path:
    """Return the path of the settings file of `stack`, as `pulumi up` wrote it.

    Looks at $TANDEM_SETTINGS first, then for `.tandem/<stack>/tandem.json` in `start` (by
    default the working directory) and its parents. Without `stack` there must be only one.
    Raises FileNotFoundError, saying what to do, if there is none, or several.
    """
    if stack is None and (named := os.environ.get(ENVIRONMENT_VARIABLE)):
        return Path(named)
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        found = sorted(folder.glob(f".tandem/{stack or '*'}/{FILE_NAME}"))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(path.parent.name for path in found)
            message = f"several stacks are up here ({names}): name one with --stack"
            raise FileNotFoundError(message)
    which = f"the stack {stack!r} is" if stack else "any stack is"
    message = (
        f"nothing says that {which} up: run `make up`, "
        f"or point ${ENVIRONMENT_VARIABLE} at a {FILE_NAME}"
    )
    raise FileNotFoundError(message)


def load(stack: str | None = None) -> Settings:
    """Read the settings of `stack`; see `find` for where they are looked for."""
    return Settings.parse(find(stack).read_text(encoding="utf-8"))
