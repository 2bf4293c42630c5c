"""Run a worker: `python -m service.worker --name worker-0`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
from pathlib import Path

import uvloop

from service.logs import configure
from service.metrics import DIRECTORY_VARIABLE, PrometheusMetrics
from tandem.engine import Engine
from tandem.errors import TandemError
from tandem.metrics import Metrics, NoMetrics
from tandem.probing import ask, ask_again
from tandem.queues.jetstream import JetStreamQueue
from tandem.settings import Settings, load
from tandem.stores.s3 import S3Store
from tandem.worker import Worker

READY_VARIABLE = "TANDEM_READY_FILE"


async def work(settings: Settings, name: str, slots: int) -> None:
    """Work until SIGTERM or SIGINT, then finish or hand back what is in hand."""
    stores = {name: S3Store.connect(site) for name, site in settings.sites.items()}
    queue = await JetStreamQueue.connect(settings.queue)
    metrics: Metrics = (
        PrometheusMetrics(name) if os.environ.get(DIRECTORY_VARIABLE) else NoMetrics()
    )
    engine = Engine(stores, settings.rules)
    worker = Worker(queue, engine, settings.sites, metrics, slots, name)
    loop = asyncio.get_running_loop()
    for signal_ in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_, worker.stop)
    targets = sorted({target for rule in engine.rules for target in rule.targets})
    unknown = await ask(stores, targets, engine.rules)
    asking = asyncio.create_task(ask_again(stores, unknown, engine.rules))
    # What is loaded by now stays: without it in view, collections are short, and so are pauses.
    gc.collect()
    gc.freeze()
    ready = Path(path) if (path := os.environ.get(READY_VARIABLE)) else None
    try:
        if ready:
            ready.touch()
        await worker.run()
    finally:
        if ready:
            ready.unlink(missing_ok=True)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await queue.close()
        await asyncio.gather(*(store.close() for store in stores.values()))


def main() -> None:
    """Read the command line and work."""
    parser = argparse.ArgumentParser(prog="service.worker", description="Replicate changes.")
    parser.add_argument("--name", required=True, help="a name that no other worker here has")
    parser.add_argument("--slots", type=int, default=128, help="messages in hand at once")
    arguments = parser.parse_args()
    configure()
    try:
        uvloop.run(work(load(), arguments.name, arguments.slots))
    except TandemError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
