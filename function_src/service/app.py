"""The HTTP service of a stack: health, metrics and status."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from service.metrics import Reconciled, exposition
from service.schedule import Schedule
from service.status import Status
from tandem.errors import TandemError
from tandem.queues.jetstream import JetStreamQueue
from tandem.settings import Settings
from tandem.stores.s3 import S3Store

UNAVAILABLE = 503
# The media type of Prometheus' text format, version 0.0.4.
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def create(settings: Settings, folder: Path) -> FastAPI:
    """Return the application for a stack, whose folder is given; it connects when it starts."""
    status: Status
    schedule: Schedule

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal status, schedule
        stores = {name: S3Store.connect(site) for name, site in settings.sites.items()}
        queue = await JetStreamQueue.connect(settings.queue)
        status = Status(settings, queue, stores)
        schedule = Schedule(settings, queue, stores, folder)
        tasks = [asyncio.create_task(work) for work in (status.watch(), schedule.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await queue.close()
            await asyncio.gather(*(store.close() for store in stores.values()))

    app = FastAPI(title="Tandem", summary="How a stack does.", lifespan=lifespan)

    @app.get("/healthz", responses={UNAVAILABLE: {"description": "A part does not answer."}})
    async def healthz() -> JSONResponse:
        """Tell whether the queue and every site answer."""
        ailments = await status.ailments()
        body = {"ok": not ailments, "ailments": ailments}
        return JSONResponse(body, status_code=UNAVAILABLE if ailments else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Give the figures of all workers in Prometheus' text format."""
        reconciled = Reconciled(schedule.to_json()["last"])
        return Response(exposition(await status.waiting(), reconciled), media_type=PROMETHEUS)

    @app.get("/v1/status", responses={UNAVAILABLE: {"description": "The queue is away."}})
    async def v1_status() -> Any:
        """Tell for each rule its lag, backlog, oldest change and failures; and of the reconcile."""
        try:
            rules = await status.rules()
            return {"stack": settings.stack, "rules": rules, "reconcile": schedule.to_json()}
        except TandemError as error:
            return JSONResponse({"detail": str(error)}, status_code=UNAVAILABLE)

    return app
