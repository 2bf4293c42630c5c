"""The service, asked over HTTP, with its real servers well and unwell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create
from service.journal import Journal, ReconcileRound, SweepRound, now
from service.metrics import PrometheusMetrics
from tandem.change import Change
from tandem.errors import ErrorClass
from tandem.queues.base import Failure
from tandem.queues.jetstream import JetStreamQueue
from tandem.settings import Settings
from tests.servers import Nats
from tests.service.test_metrics import folder, outcome

__all__ = ["folder"]


async def asked(settings: Settings, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create(settings, folder)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            yield client


@pytest.fixture
async def client(settings: Settings, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async for one in asked(settings, tmp_path):
        yield one


async def test_a_stack_that_is_well_says_so(client: httpx.AsyncClient):
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"ok": True, "ailments": []})


async def test_a_missing_bucket_is_an_ailment_of_its_site(settings: Settings, tmp_path: Path):
    right = replace(settings.sites["right"], bucket="no-such-bucket")
    ill = replace(settings, sites={**settings.sites, "right": right})
    async for client in asked(ill, tmp_path):
        answer = await client.get("/healthz")
        assert answer.status_code == 503
        (ailment,) = answer.json()["ailments"]
        assert ailment.startswith("site right: ")
        assert "NoSuchBucket" in ailment


async def test_a_bucket_without_versions_is_an_ailment_where_a_rule_goes_both_ways(
    settings: Settings, tmp_path: Path
):
    (rule,) = settings.rules
    ill = replace(settings, rules=(replace(rule, two_way=True),))
    async for client in asked(ill, tmp_path):
        answer = await client.get("/healthz")
        assert answer.status_code == 503
        assert answer.json()["ailments"] == [
            f"site {name}: rule all goes both ways, and the versioning of the bucket "
            f"{settings.sites[name].bucket} of the site {name} is off: turn it on "
            "(`versioning: true` of the site), or let the rule do without"
            for name in ("left", "right")
        ]


async def test_a_server_that_is_down_is_an_ailment_and_told_within_seconds(
    settings: Settings, tmp_path: Path
):
    right = replace(settings.sites["right"], endpoint="http://127.0.0.1:9")
    ill = replace(settings, sites={**settings.sites, "right": right})
    async for client in asked(ill, tmp_path):
        async with asyncio.timeout(5):
            answer = await client.get("/healthz")
        assert answer.status_code == 503
        assert [one.partition(":")[0] for one in answer.json()["ailments"]] == ["site right"]


async def test_without_nats_the_service_is_up_and_says_what_is_wrong(
    client: httpx.AsyncClient, nats: Nats
):
    nats.kill()
    health, status, metrics = await asyncio.gather(
        client.get("/healthz"), client.get("/v1/status"), client.get("/metrics")
    )
    assert health.status_code == status.status_code == 503
    assert health.json()["ailments"][0].startswith("queue: ")
    assert "test-changes" in status.json()["detail"]
    assert metrics.status_code == 200
    nats.start()
    async with asyncio.timeout(60):
        while (await client.get("/healthz")).status_code != 200:  # noqa: ASYNC110 -- only asking tells
            await asyncio.sleep(0.1)


async def test_the_status_of_a_rule_tells_lag_backlog_age_and_failures(
    client: httpx.AsyncClient, settings: Settings
):
    (quiet,) = (await client.get("/v1/status")).json()["rules"]
    assert quiet == {
        "rule": "all",
        "source": "left",
        "targets": ["right"],
        "lag": {"p50": None, "p99": None},
        "backlog": 0,
        "oldest": None,
        "failed": {},
    }
    queue = await JetStreamQueue.connect(settings.queue)
    await queue.send(Change("left", "a"), Change("left", "b"), Change("right", "c"))
    now = datetime.now(UTC)
    change = Change("left", "k", rule="all", target="right")
    await queue.fail(Failure("", ErrorClass.DENIED, "all", "right", change, "no", 1, now, now))
    PrometheusMetrics("worker-0").converged(outcome(0.0045))
    (busy,) = (await client.get("/v1/status")).json()["rules"]
    await queue.close()
    assert busy["backlog"] == 2
    assert 0 <= busy["oldest"] < 10
    assert busy["failed"] == {"denied": 1}
    assert busy["lag"]["p50"] == pytest.approx(0.0045, abs=0.001)


async def test_metrics_are_prometheus_text(client: httpx.AsyncClient, settings: Settings):
    queue = await JetStreamQueue.connect(settings.queue)
    await queue.send(Change("left", "a"))
    await queue.close()
    PrometheusMetrics("worker-0").converged(outcome())
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'tandem_backlog{source="left"} 1.0' in answer.text
    assert 'tandem_outcomes_total{action="copy",rule="all",target="right"} 1.0' in answer.text


@pytest.mark.parametrize(
    ("kind", "told", "counted"),
    [
        (ReconcileRound, {"every": 3600, "thorough": False}, "keys"),
        (SweepRound, {"every": 86400, "older_than": 86400}, "kept"),
    ],
)
async def test_what_recurs_is_in_the_status_and_in_the_metrics(
    settings: Settings, tmp_path: Path, kind: Any, told: dict[str, Any], counted: str
):
    journal = Journal(tmp_path, kind)
    journal.due = now()
    journal.write()
    async for client in asked(settings, tmp_path):
        async with asyncio.timeout(60):
            found = {"last": None}
            while not found["last"]:
                found = (await client.get("/v1/status")).json()[kind.name]
                await asyncio.sleep(0.05)
        assert found | told | {"current": None} == found
        assert (found["last"][counted], found["last"]["error"]) == (0, None)
        text = (await client.get("/metrics")).text
        assert f"tandem_{kind.name}_ended_timestamp_seconds" in text
        assert f"tandem_{kind.name}_{counted} 0.0" in text
