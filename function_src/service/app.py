"""The HTTP service of a stack: health, metrics and status."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from service.metrics import Reconciled, Swept, exposition
from service.schedule import Schedule
from service.status import Status
from service.sweeping import Sweeping
from tandem.errors import TandemError
from tandem.queues.jetstream import JetStreamQueue
from tandem.settings import Settings
from tandem.stores.s3 import S3Store

UNAVAILABLE = 503
# The media type of Prometheus' text format, version 0.0.4.
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class _Parts:
    """What answers for a stack."""

    status: Status
    schedule: Schedule
    sweeping: Sweeping


@contextlib.asynccontextmanager
async def _running(settings: Settings, folder: Path) -> AsyncIterator[_Parts]:
    """Connect to the stack, and do what recurs until the end."""
    stores = {name: S3Store.connect(site) for name, site in settings.sites.items()}
    queue = await JetStreamQueue.connect(settings.queue)
    parts = _Parts(
        Status(settings, queue, stores),
        Schedule(settings, queue, stores, folder),
        Sweeping(settings, stores, folder),
    )
    work = (parts.status.watch(), parts.schedule.run(), parts.sweeping.run())
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield parts
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await queue.close()
        await asyncio.gather(*(store.close() for store in stores.values()))


def create(settings: Settings, folder: Path) -> FastAPI:
    """Return the application for a stack, whose folder is given; it connects when it starts."""
    parts: _Parts

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal parts
        async with _running(settings, folder) as parts:
            yield

    app = FastAPI(title="Tandem", summary="How a stack does.", lifespan=lifespan)

    @app.get("/healthz", responses={UNAVAILABLE: {"description": "A part does not answer."}})
    async def healthz() -> JSONResponse:
        """Tell whether the queue and every site answer."""
        ailments = await parts.status.ailments()
        body = {"ok": not ailments, "ailments": ailments}
        return JSONResponse(body, status_code=UNAVAILABLE if ailments else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Give the figures of all workers in Prometheus' text format."""
        reconciled = Reconciled(parts.schedule.to_json()["last"])
        swept = Swept(parts.sweeping.to_json()["last"])
        text = exposition(await parts.status.waiting(), reconciled, swept)
        return Response(text, media_type=PROMETHEUS)

    @app.get("/v1/status", responses={UNAVAILABLE: {"description": "The queue is away."}})
    async def v1_status() -> Any:
        """Tell for each rule its lag, backlog, oldest change and failures; and of what recurs."""
        try:
            rules = await parts.status.rules()
        except TandemError as error:
            return JSONResponse({"detail": str(error)}, status_code=UNAVAILABLE)
        return {
            "stack": settings.stack,
            "rules": rules,
            "reconcile": parts.schedule.to_json(),
            "sweep": parts.sweeping.to_json(),
        }

    return app
