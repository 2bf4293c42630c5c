"""The worker and the service as processes, the way a stack runs them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from service.logs import FILE_VARIABLE
from service.worker import READY_VARIABLE
from tandem.change import Change
from tandem.queues.jetstream import JetStreamQueue
from tandem.settings import ENVIRONMENT_VARIABLE, Settings, Site
from tests.conftest import client_of
from tests.servers import Minio, free_port

SOURCE = Path(__file__).parents[2] / "function_src"


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.fixture
def environment(settings: Settings, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "tandem.json").write_text(settings.dump())
    return {
        **os.environ,
        "PYTHONPATH": str(SOURCE),
        ENVIRONMENT_VARIABLE: str(tmp_path / "tandem.json"),
        READY_VARIABLE: str(tmp_path / "ready"),
        FILE_VARIABLE: str(tmp_path / "log"),
    }


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments], env=environment, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_replicates_says_when_it_is_ready_and_goes_when_told(
    environment: dict[str, str],
    settings: Settings,
    minio: Minio,
    tmp_path: Path,
    stop: signal.Signals,
):
    worker = start(environment, "service.worker", "--name", "worker-0")
    try:
        until((tmp_path / "ready").exists)
        s3 = client_of(minio)
        s3.put_object(Bucket=settings.sites["left"].bucket, Key="k", Body=b"body")
        queue = await JetStreamQueue.connect(settings.queue)
        await queue.send(Change("left", "k"))
        await queue.close()
        there = settings.sites["right"].bucket
        until(lambda: s3.list_objects_v2(Bucket=there)["KeyCount"] == 1)
        assert s3.get_object(Bucket=there, Key="k")["Body"].read() == b"body"
        s3.close()
        worker.send_signal(stop)
        assert worker.wait(10) == 0
    finally:
        worker.kill()
        worker.wait()
    assert not (tmp_path / "ready").exists()
    assert sorted(path.name for path in (tmp_path / "metrics").iterdir()) == [
        "counter_worker-0.db",
        "histogram_worker-0.db",
    ]
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_a_worker_begins_while_a_target_is_away_and_works_when_it_is_back(
    environment: dict[str, str],
    settings: Settings,
    minio: Minio,
    second_minio: Minio,
    make_bucket: Callable[..., str],
    tmp_path: Path,
):
    bucket = make_bucket(second_minio)
    access = (second_minio.access_key, second_minio.secret_key)
    sites = {**settings.sites, "right": Site("right", bucket, second_minio.endpoint, *access)}
    text = Settings(settings.stack, sites, settings.rules, settings.queue).dump()
    (tmp_path / "tandem.json").write_text(text)
    second_minio.kill()
    worker = start(environment, "service.worker", "--name", "worker-0")
    log = tmp_path / "log"
    try:
        until((tmp_path / "ready").exists)
        assert "right could not be asked what it can do: put right:" in log.read_text()
        s3 = client_of(minio)
        s3.put_object(Bucket=settings.sites["left"].bucket, Key="k", Body=b"body")
        s3.close()
        queue = await JetStreamQueue.connect(settings.queue)
        await queue.send(Change("left", "k"))
        await queue.close()
        second_minio.start()
        there = client_of(second_minio)
        until(lambda: there.list_objects_v2(Bucket=bucket)["KeyCount"] == 1, 60)
        there.close()
        worker.terminate()
        assert worker.wait(10) == 0
    finally:
        worker.kill()
        worker.wait()
        if second_minio.process is None:
            second_minio.start()


async def test_a_worker_without_nats_says_so_and_ends(
    environment: dict[str, str], settings: Settings, tmp_path: Path
):
    lost = settings.dump().replace(settings.queue.url, f"nats://127.0.0.1:{free_port()}")
    (tmp_path / "tandem.json").write_text(lost)
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "service.worker", "--name", "worker-0"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("NATS at nats://127.0.0.1:")
    assert "Traceback" not in ended.stderr


async def test_the_service_answers_on_its_port_of_this_machine_only_and_goes_when_told(
    environment: dict[str, str],
):
    port = free_port()
    service = start(environment, "service", "--port", str(port))
    url = f"http://127.0.0.1:{port}/healthz"

    def healthy() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(json.load(answer)["ok"])
        except OSError:
            return False

    try:
        until(healthy)
        service.terminate()
        assert service.wait(10) in {0, -signal.SIGTERM}
    finally:
        service.kill()
        service.wait()


def test_a_worker_loads_nothing_that_only_others_need():
    told = subprocess.run(
        [sys.executable, "-c", "import sys, service.worker; print(*sys.modules)"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"boto3", "botocore", "fastapi", "pydantic", "pulumi", "uvicorn"} & set(told)
