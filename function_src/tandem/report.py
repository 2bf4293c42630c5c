"""Findings, failures and listings as plain dicts, and as words for people. Pure.

The dicts are what the command prints with `--json`; keys in them are exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tandem.decision import Action
from tandem.errors import ErrorClass
from tandem.queues.base import Failure
from tandem.reconcile import Finding
from tandem.rule import Rule
from tandem.settings import seconds
from tandem.stores.base import Entry

# What no replay can mend: older versions that came too late for their places.
GAP = "gap"
# What to do about each class of error, in one sentence.
ADVICE: Mapping[ErrorClass, str] = {
    ErrorClass.TRANSIENT: "See that the server named here is up, then redrive.",
    ErrorClass.THROTTLED: "Let the server rest or raise its limits, then redrive.",
    ErrorClass.CONFLICT: "Something keeps writing this key: find out what, then redrive.",
    ErrorClass.DENIED: "Mend the credentials or the bucket's policy, then redrive.",
    ErrorClass.MISSING: "Make the bucket, or correct its name in the stack's file, then redrive.",
    ErrorClass.INVALID: "The target cannot hold this: rename or change the object at its source.",
    ErrorClass.POISON: "Read the message; if the object it means matters, `tandem sync` its rule.",
}

MINUTE, HOUR, DAY = 60, 3600, 86400
KIB = 1024


def duration(seconds: float) -> str:
    """Return a duration in the unit that a person would choose, such as `6.2 ms` or `3 min 5 s`."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def moment(at: datetime) -> str:
    """Return a time to the second in UTC, such as `2026-11-21 08:30:00Z`."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def parse_duration(text: str) -> timedelta:
    """Return the duration that a text such as `90s`, `10m`, `2h` or `1d` means.

    Raises ValueError, saying what is understood.
    """
    return timedelta(seconds=seconds(text))


def size(count: float) -> str:
    """Return a number of bytes in binary units, such as `4.0 KiB`."""
    if count < KIB:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= KIB
        if count < KIB:
            return f"{count:.1f} {unit}"
    return f"{count / KIB:.1f} TiB"


def printable(text: str) -> str:
    r"""Return text that does a terminal no harm: what is not printable is escaped, `\` is doubled.

    Not only control characters: those that turn the writing direction round are escaped too.
    """
    return "".join(
        "\\\\" if one == "\\" else one if one.isprintable() else _escaped(one) for one in text
    )


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


@dataclass(slots=True)
class Tally:
    """Count what a reconcile found, or did, for one rule at one target."""

    rule: str
    source: str
    target: str
    actions: Counter[str] = field(default_factory=Counter)
    foreign: int = 0
    uncovered: int = 0
    failed: int = 0
    bytes: int = 0
    sampled: int = 0
    read: int = 0
    corrupt: int = 0
    gaps: int = 0

    @classmethod
    def of(cls, rule: Rule, target: str) -> Tally:
        """Return an empty tally."""
        return cls(rule.name, rule.source, target)

    def add(self, finding: Finding) -> None:
        """Count one key."""
        self.failed += finding.error is not None
        self.foreign += finding.foreign
        self.uncovered += finding.uncovered
        self.bytes += finding.size
        self.corrupt += finding.corrupt
        self.gaps += finding.gap and what(finding) == GAP
        if finding.reading:
            self.sampled += 1
            self.read += finding.reading.size
        if finding.decision:
            self.actions[finding.decision.action] += 1

    @property
    def keys(self) -> int:
        """Return how many keys were looked at."""
        return self.actions.total() + self.failed

    @property
    def differ(self) -> int:
        """Return for how many keys something is, or was, to be done."""
        return self.actions.total() - self.actions["skip"] + self.corrupt + self.gaps

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON knows them; `bytes` were copied, `read` on each side."""
        return {
            "rule": self.rule,
            "source": self.source,
            "target": self.target,
            "keys": self.keys,
            **{name: self.actions[name] for name in ("copy", "retag", "delete", "skip")},
            "foreign": self.foreign,
            "uncovered": self.uncovered,
            "failed": self.failed,
            "bytes": self.bytes,
            "sampled": self.sampled,
            "read": self.read,
            "corrupt": self.corrupt,
            "gaps": self.gaps,
        }


def finding(found: Finding) -> dict[str, Any]:
    """Return a finding as JSON knows it: `what` is an action, or a word of `what`."""
    return {
        "rule": found.rule,
        "source": found.source,
        "target": found.target,
        "key": found.key,
        "target_key": found.target_key or found.key,
        "what": what(found),
        "why": why(found),
    }


def called(key: str, target_key: str) -> str:
    """Return a key for people; where the target calls it something else, what it does."""
    told = printable(key)
    return told if target_key in ("", key) else f"{told} → {printable(target_key)}"


def what(found: Finding) -> str:
    """Return in one word what a finding says: an action, or what else it may be."""
    if found.decision is None:
        return "failed"
    if found.corrupt:
        return "corrupt"
    if found.gap and found.decision.action is Action.SKIP:
        return GAP
    return "foreign" if found.foreign else found.decision.action.value


def why(found: Finding) -> str:
    """Return the reason of a finding; of a failure with its class."""
    if found.error:
        return f"{found.error.error_class}: {found.error}"
    if found.reading and found.corrupt:
        return found.reading.told
    return found.decision.reason if found.decision else ""


def failure(failed: Failure) -> dict[str, Any]:
    """Return a failure as JSON knows it; times are ISO 8601 in UTC."""
    change = failed.change
    return {
        "id": failed.id,
        "class": failed.error_class.value,
        "rule": failed.rule,
        "target": failed.target,
        "site": change.site if change else None,
        "key": change.key if change else None,
        "reason": failed.message,
        "advice": ADVICE[failed.error_class],
        "attempts": failed.attempts,
        "since": failed.since.isoformat(),
        "at": failed.at.isoformat(),
        "raw": failed.raw or None,
    }


def entry(listed: Entry) -> dict[str, Any]:
    """Return one line of a listing as JSON knows it; `size` in bytes, `modified` in UTC."""
    return {
        "key": listed.key,
        "size": listed.size,
        "modified": listed.last_modified.isoformat(),
        "etag": listed.etag,
    }


STATUS_HEAD = ("RULE", "FROM", "TO", "LAG P50", "LAG P99", "BACKLOG", "OLDEST", "FAILED")


def status_row(rule: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one rule of the service's status in the words of STATUS_HEAD's columns.

    A dash stands for what is not known: no lag before the first copy, no oldest without backlog.
    """
    failed = ", ".join(f"{count:,} {name}" for name, count in rule["failed"].items() if count)
    return (
        printable(rule["rule"]),
        printable(rule["source"]),
        printable(", ".join(rule["targets"])),
        _or_dash(rule["lag"]["p50"]),
        _or_dash(rule["lag"]["p99"]),
        f"{rule['backlog']:,}",
        _or_dash(rule["oldest"]),
        failed or "none",
    )


def reconcile_line(told: Mapping[str, Any], now: datetime) -> str:
    """Return in one line how the service's reconcile stands; `told` is its word in the status."""

    def done(last: Mapping[str, Any]) -> str:
        return (
            f"{last['keys']:,} keys compared in {duration(last['seconds'])}, "
            f"{last['changes']:,} changes emitted"
        )

    current = told["current"]
    so_far = f", {current['keys']:,} keys so far" if current else ""
    return f"reconcile: {_recurring(told, now, so_far, done)}"


def sweep_line(told: Mapping[str, Any], now: datetime) -> str:
    """Return in one line how the service's sweep stands; `told` is its word in the status."""

    def done(last: Mapping[str, Any]) -> str:
        return f"{last['aborted']:,} aborted ({size(last['bytes'])}), {last['kept']:,} kept"

    return f"sweep: {_recurring(told, now, '', done)}"


def _recurring(
    told: Mapping[str, Any],
    now: datetime,
    so_far: str,
    done: Callable[[Mapping[str, Any]], str],
) -> str:
    if not told["every"]:
        return "off"
    if told["current"]:
        begun = f"under way{so_far}"
    else:
        begun = f"next in {_from(now, told['due'])}" if told["due"] > now.isoformat() else "due now"
    last = told["last"]
    if not last:
        return f"none yet; {begun}"
    when = f"{_from(datetime.fromisoformat(last['ended']), now.isoformat())} ago"
    if last["error"]:
        return f"stopped {when} ({printable(last['error'])}); {begun}"
    return f"{done(last)}, {when}; {begun}"


def _from(earlier: datetime, later: str) -> str:
    return duration(max(0.0, round((datetime.fromisoformat(later) - earlier).total_seconds())))


def _or_dash(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)
