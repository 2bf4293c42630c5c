"""The figures of several workers, added up."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families

from service.lag import quantile
from service.metrics import (
    DIRECTORY_VARIABLE,
    PrometheusMetrics,
    Waiting,
    exposition,
    lag_buckets,
)
from tandem.decision import Action, Decision
from tandem.errors import ErrorClass
from tandem.outcome import Outcome


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    return tmp_path


def outcome(lag: float | None = 0.0045, action: Action = Action.COPY, size: int = 7) -> Outcome:
    return Outcome(
        rule="all",
        source="left",
        target="right",
        key="k",
        decision=Decision(action, "because"),
        size=size,
        seconds=0.01,
        lag=lag,
        rounds=1,
        recheck=None,
        at=datetime.now(UTC),
    )


def samples(waiting: Waiting | None = None) -> dict[tuple[str, ...], float]:
    """Return each sample by its name and the values of its labels, in their order by name."""
    text = exposition(waiting or Waiting({}, {})).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_workers_figures_are_added_up():
    for name in ("worker-0", "worker-1"):
        worker = PrometheusMetrics(name)
        worker.converged(outcome())
        worker.converged(outcome(None, Action.SKIP, 0))
        worker.failed("all", "right", ErrorClass.DENIED, final=True)
        worker.retried()
    found = samples()
    assert found["tandem_outcomes_total", "copy", "all", "right"] == 2
    assert found["tandem_outcomes_total", "skip", "all", "right"] == 2
    assert found["tandem_copied_bytes_total", "all", "right"] == 14
    assert found["tandem_lag_seconds_count", "all", "right"] == 2
    assert found["tandem_convergence_seconds_count", "all", "right"] == 4
    assert found["tandem_failures_total", "denied", "true", "all", "right"] == 2
    assert found["tandem_retries_total",] == 2


def test_a_restarted_worker_goes_on_where_it_stood_and_leaves_no_file_behind(folder: Path):
    PrometheusMetrics("worker-0").converged(outcome())
    before = sorted(folder.iterdir())
    PrometheusMetrics("worker-0").converged(outcome())
    assert sorted(folder.iterdir()) == before
    assert samples()["tandem_outcomes_total", "copy", "all", "right"] == 2


def test_the_lag_of_a_rule_is_told_to_a_millisecond_where_a_healthy_one_lies():
    worker = PrometheusMetrics("worker-0")
    for _ in range(99):
        worker.converged(outcome(0.0045))
    worker.converged(outcome(20.0))
    buckets = lag_buckets()["all"]
    assert quantile(buckets, 0.5) == pytest.approx(0.0045, abs=0.001)
    assert quantile(buckets, 1.0) == pytest.approx(20, rel=0.6)


def test_what_waits_is_told_by_source():
    found = samples(Waiting({"left": 3}, {"left": 1.5}))
    assert found["tandem_backlog", "left"] == 3
    assert found["tandem_oldest_seconds", "left"] == 1.5


def test_without_a_folder_only_what_waits_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(DIRECTORY_VARIABLE)
    assert samples(Waiting({"left": 3}, {})) == {("tandem_backlog", "left"): 3}
    assert lag_buckets() == {}
