"""`tandem status`, from a service that says what it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from rich.console import Console

from service.status import Status
from tandem.cli import status
from tandem.cli.stack import Refused
from tandem.queues.memory import MemoryQueue
from tandem.report import status_row
from tests.cli.conftest import Cli

RULES = [
    {
        "rule": "documents",
        "source": "source",
        "targets": ["target", "copy"],
        "lag": {"p50": 0.0062, "p99": 0.031},
        "backlog": 1204,
        "oldest": 3.2,
        "failed": {"denied": 2, "invalid": 1, "poison": 0},
    },
    {
        "rule": "logs",
        "source": "source",
        "targets": ["target"],
        "lag": {"p50": None, "p99": None},
        "backlog": 0,
        "oldest": None,
        "failed": {},
    },
]

RECONCILE = {
    "every": 3600.0,
    "thorough": False,
    "due": "2020-11-21T09:00:00+00:00",
    "current": None,
    "last": None,
}

SWEEP = {**RECONCILE, "every": None, "older_than": 86400.0}

Service = Callable[..., None]


@pytest.fixture
def service(paper: Cli) -> Iterator[Service]:
    """Give a function that sets what the service answers next."""
    answer: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/v1/status"
            self.send_response(answer["code"] if found else 404)
            self.end_headers()
            self.wfile.write(answer["body"].encode())

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    def say(body: Any, code: int = 200) -> None:
        answer.update(code=code, body=body if isinstance(body, str) else json.dumps(body))

    server = HTTPServer(("127.0.0.1", 0), Handler)
    paper.write(service_url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield say
    server.shutdown()
    thread.join()
    server.server_close()


def test_status_shows_a_line_for_each_rule(paper: Cli, service: Service):
    service({"rules": RULES, "reconcile": RECONCILE, "sweep": SWEEP})
    assert paper("status").lines == [
        "RULE       FROM    TO            LAG P50  LAG P99  BACKLOG  OLDEST  FAILED",
        "documents  source  target, copy   6.2 ms  31.0 ms    1,204   3.2 s  2 denied, 1 invalid",
        "logs       source  target              -        -        0       -  none",
        "reconcile: none yet; due now",
        "sweep: off",
    ]


async def test_what_the_service_says_of_a_new_stack_can_be_shown(paper: Cli):
    rules = await Status(paper.settings, MemoryQueue(), {}).rules()
    assert list(map(status_row, json.loads(json.dumps(rules)))) == [
        ("documents", "source", "target", "-", "-", "0", "-", "none"),
        ("logs", "source", "target", "-", "-", "0", "-", "none"),
    ]


def test_status_as_json_is_what_the_service_said(paper: Cli, service: Service):
    service({"rules": RULES, "more": 1})
    assert paper("status", "--json").json == {"rules": RULES, "more": 1}


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("", 500, "answered 500: Internal Server Error"),
        ({"detail": "NATS is away"}, 503, "answered 503: NATS is away"),
        ("oops", 200, "does not answer (Expecting value"),
    ],
)
def test_a_service_that_is_not_well_is_told_plainly(
    paper: Cli, service: Service, body: Any, code: int, message: str
):
    service(body, code)
    told = paper("status")
    assert told.code == 2
    assert message in told.err
    assert told.err.count("\n") == 1


def test_a_service_that_is_down_is_told_with_what_to_do(paper: Cli):
    told = paper("status")
    assert told.code == 2
    assert told.err == (
        f"tandem: the service at {paper.settings.service_url}/v1/status does not answer "
        "([Errno 111] Connection refused): `make up` starts what is down\n"
    )


def test_watching_shows_the_table_again_and_again_though_the_service_goes(
    paper: Cli, service: Service, monkeypatch: pytest.MonkeyPatch
):
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            service("", 503)
        else:
            raise KeyboardInterrupt

    service({"rules": RULES, "reconcile": RECONCILE, "sweep": SWEEP})
    screen = Console(force_terminal=True, width=120, record=True, color_system=None)
    monkeypatch.setattr(status, "out", screen)
    monkeypatch.setattr(status.time, "sleep", pause)
    assert paper("status", "--watch").code == 0
    shown = screen.export_text()
    assert "2 denied, 1 invalid" in shown
    assert "answered 503" in shown
    assert len(pauses) == 2


def test_watching_without_a_terminal_shows_it_once(paper: Cli, service: Service):
    service({"rules": RULES, "reconcile": RECONCILE, "sweep": SWEEP})
    assert len(paper("status", "--watch").lines) == 5
    assert paper("status", "--watch", "--json").code == 2


def test_fetch_refuses_what_is_no_document():
    with pytest.raises(Refused, match="does not answer"):
        status.fetch("http://127.0.0.1:1/v1/status")
