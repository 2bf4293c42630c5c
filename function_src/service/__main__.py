"""Run the service: `python -m service --port 8000`."""

from __future__ import annotations

import argparse

import uvicorn

from service.app import create
from service.logs import configure
from tandem.settings import find, load


def main() -> None:
    """Read the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="service", description="Tell how a stack does.")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    arguments = parser.parse_args()
    configure()
    uvicorn.run(
        create(load(), find().parent),
        host="127.0.0.1",
        port=arguments.port,
        loop="uvloop",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
