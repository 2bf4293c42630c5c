"""The figures of all workers of a machine, for Prometheus.

Each worker writes its own files in $PROMETHEUS_MULTIPROC_DIR; whoever asks adds them up
(prometheus_client, "Multiprocess Mode"). Files bear the worker's name and not its process id, so
that a restart goes on counting where it stood and leaves no file behind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from tandem.errors import ErrorClass
from tandem.outcome import Outcome

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# From a millisecond to an hour: fine where a healthy stack lies, coarse where only alarm matters.
SECONDS = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.010, 0.015, 0.020, 0.030, 0.050, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0),
)
LAG = "tandem_lag_seconds"


class PrometheusMetrics:
    """Keep a worker's figures where Prometheus finds them; see `tandem.metrics.Metrics`."""

    def __init__(self, worker: str) -> None:
        values.ValueClass = values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]  # the library has no types here
        registry = CollectorRegistry()
        route = ("rule", "target")
        self._lag = Histogram(
            LAG,
            "From a change at the source to its being visible at the target.",
            route,
            buckets=SECONDS,
            registry=registry,
        )
        self._took = Histogram(
            "tandem_convergence_seconds",
            "What a worker took for one key at one target.",
            route,
            buckets=SECONDS,
            registry=registry,
        )
        self._outcomes = Counter(
            "tandem_outcomes", "Keys handled, by action.", (*route, "action"), registry=registry
        )
        self._bytes = Counter("tandem_copied_bytes", "Bytes copied.", route, registry=registry)
        self._failures = Counter(
            "tandem_failures",
            "Failures by class; final ones went to an error stream, the others came again.",
            (*route, "class", "final"),
            registry=registry,
        )
        self._retries = Counter(
            "tandem_retries", "Messages handed back to come again.", registry=registry
        )

    def converged(self, outcome: Outcome) -> None:
        """Count an outcome, its lag, its time and its bytes."""
        route = (outcome.rule, outcome.target)
        self._outcomes.labels(*route, outcome.decision.action.value).inc()
        self._took.labels(*route).observe(outcome.seconds)
        if outcome.lag is not None:
            self._lag.labels(*route).observe(outcome.lag)
            self._bytes.labels(*route).inc(outcome.size)

    def failed(self, rule: str, target: str, error_class: ErrorClass, *, final: bool) -> None:
        """Count a failure."""
        self._failures.labels(rule, target, error_class.value, str(final).lower()).inc()

    def retried(self) -> None:
        """Count a message that must come again."""
        self._retries.inc()


def gathered() -> CollectorRegistry:
    """Return a registry that adds up what all workers have written."""
    registry = CollectorRegistry()
    if os.environ.get(DIRECTORY_VARIABLE):
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library has no types here
    return registry


class Waiting(Collector):
    """Show what waits at each source site: how many changes, and for how many seconds."""

    def __init__(self, backlog: Mapping[str, int], oldest: Mapping[str, float]) -> None:
        self._backlog = backlog
        self._oldest = oldest

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the two gauges."""
        for name, told, found in (
            ("tandem_backlog", "Changes that wait or are being handled.", self._backlog),
            ("tandem_oldest_seconds", "Age of the oldest such change.", self._oldest),
        ):
            family = GaugeMetricFamily(name, told, labels=["source"])
            for site, value in found.items():
                family.add_metric([site], value)
            yield family


class _LastRound(Collector):
    """Show how the last round of recurring work went; `last` is that of `Recurring.to_json`."""

    work: ClassVar[str]
    figures: ClassVar[Mapping[str, str]]

    def __init__(self, last: Mapping[str, Any] | None) -> None:
        self._last = last

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield a gauge for each figure; none before the first round has ended."""
        last, work = self._last, self.work
        if last is None:
            return
        ended = datetime.fromisoformat(last["ended"]).timestamp()
        for name, told, value in (
            ("ended_timestamp_seconds", f"When the last {work} ended.", ended),
            ("seconds", f"How long the last {work} took.", last["seconds"]),
            *((name, told, last[name]) for name, told in self.figures.items()),
            ("failed", f"1 if an error stopped the last {work}.", bool(last["error"])),
        ):
            yield GaugeMetricFamily(f"tandem_{work}_{name}", told, value=float(value))


class Reconciled(_LastRound):
    """Show how the last reconcile went."""

    work = "reconcile"
    figures: ClassVar = {
        "keys": "Keys that the last reconcile compared.",
        "changes": "Changes that the last reconcile emitted.",
    }


class Swept(_LastRound):
    """Show how the last sweep went."""

    work = "sweep"
    figures: ClassVar = {
        "aborted": "Uploads that the last sweep aborted.",
        "bytes": "Bytes that those uploads held.",
        "kept": "Uploads that the last sweep kept.",
    }


def exposition(*more: Collector) -> bytes:
    """Return the figures of all workers, and what `more` shows, in Prometheus' text format."""
    registry = gathered()
    for each in more:
        registry.register(each)
    return generate_latest(registry)


def lag_buckets() -> dict[str, dict[float, float]]:
    """Return for each rule how many copies, of all targets, lagged at most so many seconds."""
    found: dict[str, dict[float, float]] = {}
    for family in gathered().collect():
        for sample in family.samples:
            if sample.name == f"{LAG}_bucket":
                of_rule = found.setdefault(sample.labels["rule"], {})
                bound = float(sample.labels["le"])
                of_rule[bound] = of_rule.get(bound, 0.0) + sample.value
    return found
