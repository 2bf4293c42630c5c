"""A stack's configuration as one checked model.

All mistakes are found before anything is created, and told together, one line each: the key, the
value it has, and the fix. docs/settings.md describes every key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

import pulumi
from pulumi.runtime.config import CONFIG, is_config_secret
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from stacks import conflicts, names, patterns
from stacks.mistakes import FIX, Mistake, explain, shown
from tandem.rule import Deletes, Group, Ownership, Parts, Rule, Versions
from tandem.settings import Reconcile, Sweep, seconds

_Items = TypeVar("_Items", tuple[Any, ...], dict[str, Any])
_Told = TypeVar("_Told")
_Sound = TypeVar("_Sound", bound="_Section")

# Half of the longest key each, so that a prefix and a suffix always leave room for a key with both.
AFFIX_BYTES = 512
MOST_WORKERS, MOST_SLOTS = 64, 256
FIRST_PORT, LAST_PORT = 1024, 65535

# More levels than this no key has: a key is at most 1024 bytes.
MOST_LEVELS = 1024

# How often work may recur, in seconds: each reconcile lists every bucket from end to end.
SHORTEST, LONGEST = 10.0, 30 * 86400.0
OFF = "off"

# A description completes the sentence "use …" of a message.
_BOOLEAN = "true or false"
_TEXT = f"a text of at most {AFFIX_BYTES} bytes"
_TAG = "a text, in quotes if it looks like a number, true or false"
_AGE = "a time from 10s to 30d, such as 90s, 10m or 1h"
_INTERVAL = f"{_AGE}, or off"
_PORT = f"a whole number from {FIRST_PORT} to {LAST_PORT}"


class SettingsError(pulumi.RunError):
    """Tell all mistakes of a stack's configuration; Pulumi shows it without a traceback."""

    def __init__(self, stack: str, lines: Collection[str]) -> None:
        self.lines = tuple(lines)
        count = "1 mistake" if len(self.lines) == 1 else f"{len(self.lines)} mistakes"
        listed = "".join(f"\n  {line}" for line in self.lines)
        super().__init__(f"{count} in the settings of stack {stack}; nothing was changed{listed}")


def _judged_by(fault: Callable[[_Told], str | None]) -> AfterValidator:
    def judge(told: _Told) -> _Told:
        if fix := fault(told):
            raise PydanticCustomError(FIX, "{fix}", {"fix": fix})
        return told

    return AfterValidator(judge)


def _affix_fault(text: str) -> str | None:
    size = len(text.encode())
    return f"use at most {AFFIX_BYTES} bytes, not {size}" if size > AFFIX_BYTES else None


def _pattern_fault(text: str) -> str | None:
    return patterns.fault(text) or _affix_fault(text)


def _age_fault(text: str) -> str | None:
    try:
        sound = SHORTEST <= seconds(text) <= LONGEST
    except ValueError:
        sound = False
    return None if sound else f"use {_AGE}"


def _interval_fault(text: str) -> str | None:
    return f"use {_INTERVAL}" if text != OFF and _age_fault(text) else None


def _some(items: _Items) -> _Items:
    if not items:
        raise PydanticCustomError("empty", "empty")
    return items


_Name = Annotated[str, _judged_by(names.plain_fault)]
_Bucket = Annotated[str, _judged_by(names.bucket_fault)]
_Affix = Annotated[str, _judged_by(_affix_fault), Field(description=_TEXT)]
_Tag = Annotated[str, Field(description=_TAG)]
_Age = Annotated[str, _judged_by(_age_fault)]
_Pattern = Annotated[str, _judged_by(_pattern_fault), Field(description=patterns.EXPECTED)]
_Interval = Annotated[
    str,
    _judged_by(_interval_fault),
    # YAML's `off` is a text here, but not everywhere.
    BeforeValidator(lambda told: OFF if told == 0 else told),
]
_Site = Annotated[str, Field(description="the name of a site")]
_Port = Annotated[int | None, Field(ge=FIRST_PORT, le=LAST_PORT, description=_PORT)]


class _Section(BaseModel):
    """Hold a part of the configuration, whose keys are camelCase in the file."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, strict=True)


class SiteSettings(_Section):
    """Describe one bucket on one of the topology's servers."""

    server: Literal["source", "target"] = Field(description="source or target")
    # `parse` gives the default, <stack>-<site>.
    bucket_name: _Bucket = Field(alias="bucket", description="the name of a bucket")
    adopt: bool = Field(default=False, description=_BOOLEAN)
    versioning: bool = Field(default=True, description=_BOOLEAN)


class GroupSettings(_Section):
    """Say which keys are indexes and how far their groups reach; see `Group`."""

    index: _Pattern
    up: int = Field(
        default=0, ge=0, le=MOST_LEVELS, description=f"a whole number from 0 to {MOST_LEVELS}"
    )


class RuleSettings(_Section):
    """Say which keys replicate from one site to others; the fields are those of `Rule`."""

    name: _Name = Field(description="a name that no other rule has")
    source: _Site
    targets: Annotated[tuple[_Site, ...], AfterValidator(_some)] = Field(
        description="a list with the names of one or more sites"
    )
    prefix: _Affix = ""
    suffix: _Affix = ""
    target_prefix: Annotated[_Affix | None, Field(description=_TEXT)] = None
    deletes: Deletes = Field(default="mirror", description="mirror or keep")
    ownership: Ownership = Field(default="tandem", description="tandem or all")
    parts: Parts = Field(default="auto", description="auto or source")
    tags: bool = Field(default=True, description=_BOOLEAN)
    two_way: bool = Field(default=False, description=_BOOLEAN)
    metadata: bool = Field(default=True, description=_BOOLEAN)
    storage_class: Annotated[str | None, Field(pattern=r"^[A-Z_]{1,40}$")] = Field(
        default=None, description="a storage class that the target knows, such as STANDARD_IA"
    )
    deletes_per_hour: int | None = Field(
        default=None, ge=0, le=10**9, description="a whole number, 0 or more"
    )
    where_tags: Annotated[dict[str, _Tag], _judged_by(names.tags_fault)] = Field(
        default={}, description="a mapping of tags to their values, such as {project: x}"
    )
    groups: tuple[GroupSettings, ...] = Field(
        default=(), description="a list of patterns, such as [{index: '*/_SUCCESS'}]"
    )
    versions: Versions = Field(default="latest", description="latest or all")

    def to_rule(self) -> Rule:
        """Return the rule as the replicator knows it."""
        groups = tuple(Group(**group.model_dump()) for group in self.groups)
        return Rule(**self.model_dump() | {"groups": groups})


class LocalPorts(_Section):
    """Fix ports on 127.0.0.1; for each that is left out a free one is found."""

    source: _Port = None
    source_console: _Port = None
    target: _Port = None
    target_console: _Port = None
    nats: _Port = None
    service: _Port = None


class LocalSettings(_Section):
    """Size the topology `local`; `slots` counts the copies in flight in each worker."""

    workers: int = Field(
        default=2, ge=1, le=MOST_WORKERS, description=f"a whole number from 1 to {MOST_WORKERS}"
    )
    slots: int = Field(
        default=128, ge=1, le=MOST_SLOTS, description=f"a whole number from 1 to {MOST_SLOTS}"
    )
    ports: LocalPorts = LocalPorts()


class ReconcileSettings(_Section):
    """Say how often the service reconciles, and whether it doubts equal ETags."""

    every: _Interval = Field(default="1h", description=_INTERVAL)
    thorough: bool = Field(default=False, description=_BOOLEAN)

    def to_reconcile(self) -> Reconcile:
        """Return the same as the replicator knows it."""
        return Reconcile(_every(self.every), self.thorough)


class SweepSettings(_Section):
    """Say how often the service sweeps, and what is old enough for it."""

    every: _Interval = Field(default="1d", description=_INTERVAL)
    older_than: _Age = Field(default="1d", description=_AGE)

    def to_sweep(self) -> Sweep:
        """Return the same as the replicator knows it."""
        return Sweep(_every(self.every), seconds(self.older_than))


class Configuration(_Section):
    """Hold what a stack's file says."""

    topology: Literal["local"] = Field(default="local", description="local")
    force_destroy: bool = Field(default=False, description=_BOOLEAN)
    sites: Annotated[dict[_Name, SiteSettings], AfterValidator(_some)] = Field(
        description="a mapping of names to sites, as in stacks/Pulumi.local.yaml"
    )
    rules: Annotated[tuple[RuleSettings, ...], AfterValidator(_some)] = Field(
        description="a list of rules, as in stacks/Pulumi.local.yaml"
    )
    reconcile: ReconcileSettings = ReconcileSettings()
    sweep: SweepSettings = SweepSettings()
    local: LocalSettings = LocalSettings()


class StackSettings(Configuration):
    """Hold what a stack's file says, and whose file it is."""

    stack: str


def load() -> StackSettings:
    """Return the settings of the stack that Pulumi is running.

    Raises SettingsError with every mistake in them.
    """
    config: dict[str, str] = CONFIG.get()
    secret = {key for key in config if is_config_secret(key)}
    return parse(config, stack=pulumi.get_stack(), project=pulumi.get_project(), secret=secret)


def parse(
    config: Mapping[str, str],
    *,
    stack: str,
    project: str = "tandem",
    secret: Collection[str] = (),
) -> StackSettings:
    """Return the settings that a stack's configuration holds, its keys and values as Pulumi's.

    Keys of other namespaces than the project's are no affair of ours. What lies under the keys in
    `secret` is shown in no message. Raises SettingsError with every mistake.
    """
    lines = []
    if fault := names.plain_fault(stack, names.STACK_LENGTH):
        lines.append(f"the stack's name is {shown(stack)}: {fault} (`pulumi stack rename`)")
    document = _document(config, project)
    _name_buckets(document, "stack" if fault else stack)
    try:
        configuration = Configuration.model_validate_json(json.dumps(document))
    except ValidationError as error:
        schema = Configuration.model_json_schema()
        found = [explain(detail, schema) for detail in error.errors(include_url=False)]
    else:
        found = []
    found += _conflicts(document)
    lines += [mistake.line(project, secret) for mistake in found]
    if lines:
        raise SettingsError(stack, lines)
    return StackSettings.model_construct(stack=stack, **dict(configuration))


def _document(config: Mapping[str, str], project: str) -> dict[str, Any]:
    """Return the project's settings as one JSON document; Pulumi gives each value as a text."""
    own = {
        key.removeprefix(f"{project}:"): text
        for key, text in config.items()
        if key.startswith(f"{project}:")
    }
    return {key: text if key == "topology" else _decoded(text) for key, text in own.items()}


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _name_buckets(document: dict[str, Any], stack: str) -> None:
    """Give each site without a bucket the default; a name that will not do is told of only once."""
    for site, raw in _mapping(document.get("sites")).items():
        if isinstance(raw, dict):
            raw.setdefault("bucket", f"{stack}-{'site' if names.plain_fault(site) else site}")


def _conflicts(document: Mapping[str, Any]) -> Iterator[Mistake]:
    """Hold side by side whatever is sound in itself, so that one mistake hides no other."""
    sites, rules = document.get("sites"), document.get("rules")
    known = {
        name: site for name, raw in _mapping(sites).items() if (site := _sound(SiteSettings, raw))
    }
    places = {name: (site.server, site.bucket_name) for name, site in known.items()}
    yield from conflicts.of_sites(places)
    listed = rules if isinstance(rules, list) else []
    sound = {
        index: rule.to_rule()
        for index, raw in enumerate(listed)
        if (rule := _sound(RuleSettings, raw))
    }
    yield from conflicts.of_rules(sound, list(sites) if isinstance(sites, dict) else None)
    versioned = {name: site.versioning for name, site in known.items()}
    yield from conflicts.of_versions(sound, versioned)
    yield from patterns.of_groups(sound)
    if ports := _sound(LocalPorts, _mapping(document.get("local")).get("ports")):
        given = ports.model_dump(by_alias=True, exclude_none=True)
        yield from conflicts.of_ports(given)


def _every(interval: str) -> float:
    return 0.0 if interval == OFF else seconds(interval)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _sound(section: type[_Sound], raw: object) -> _Sound | None:
    try:
        return section.model_validate_json(json.dumps(raw))
    except ValidationError:
        return None
