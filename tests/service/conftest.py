"""A stack of real servers, without Pulumi, for the processes of the service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from service.metrics import DIRECTORY_VARIABLE
from tandem.rule import Rule
from tandem.settings import Settings, Site
from tests.queues.conftest import prepared
from tests.servers import Minio, Nats


@pytest.fixture
async def settings(
    minio: Minio,
    nats: Nats,
    make_bucket: Callable[[Minio], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    """Give the settings of a stack with two sites on one server and a rule between them."""
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(metrics))
    sites = {
        name: Site(name, make_bucket(minio), minio.endpoint, minio.access_key, minio.secret_key)
        for name in ("left", "right")
    }
    return Settings(
        stack="test",
        sites=sites,
        rules=(Rule("all", "left", ("right",)),),
        queue=await prepared(nats, ack_wait=10.0),
    )
