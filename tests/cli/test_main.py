"""The command as a whole: help, errors, and its documentation."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tandem.cli import terminal
from tandem.cli.main import app
from tandem.cli.stack import Refused
from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/command.md").read_text(encoding="utf-8")
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined] -- it is a group


def options() -> Iterator[tuple[str, str]]:
    for name, command in COMMANDS.items():
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option != "--help":
                    yield name, option


def section(name: str) -> str:
    """Return what the page says of one command."""
    return re.split(rf"^## `tandem {name}`.*$", PAGE, flags=re.MULTILINE)[1].split("\n## ")[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section_with_an_example_in_the_page(name: str):
    assert f"$ tandem {name}" in section(name)


@pytest.mark.parametrize(("name", "option"), list(options()))
def test_every_option_is_in_its_commands_section_of_the_page(name: str, option: str):
    assert f"`{option}" in section(name)


def test_the_page_names_no_command_that_is_not_there():
    assert set(re.findall(r"^## `tandem ([a-z-]+)`", PAGE, re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_json_and_has_help_with_examples(paper: Cli, name: str):
    assert (name, "--json") in set(options())
    told = paper(name, "--help")
    assert told.code == 0
    assert f"Examples:\n    tandem {name}" in told.out


def test_the_help_names_every_command(paper: Cli):
    told = paper("--help")
    assert all(f"  {name} " in told.out for name in COMMANDS)
    assert "…" not in told.out
    assert "..." not in told.out.replace("[ARGS]...", "")


def test_help_loads_no_sdk():
    code = (
        "import sys; from tandem.cli.main import app\n"
        "try: app(['sync', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'httptools', 'nats', 'boto3', 'botocore', 'fastapi'}\n"
        "sys.exit(str(heavy & sys.modules.keys()) if heavy & sys.modules.keys() else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "function_src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_version_is_told(paper: Cli):
    assert paper("--version").out.startswith("tandem ")


def test_no_stack_is_told_with_what_to_do(paper: Cli):
    paper.path.unlink()
    told = paper("ls")
    assert told.code == 2
    assert told.err == (
        "tandem: nothing says that any stack is up: run `make up`, "
        "or point $TANDEM_SETTINGS at a tandem.json\n"
    )


def test_a_stack_is_named_where_several_are_up(paper: Cli):
    other = paper.path.parents[1] / "other" / "tandem.json"
    other.parent.mkdir()
    paper.write(stack="other")
    paper.path.rename(other)
    paper.write(stack="paper")
    assert paper("ls").err == (
        "tandem: several stacks are up here (other, paper): name one with --stack\n"
    )
    assert paper("--stack", "other", "ls", "--json").json["stack"] == "other"
    assert "the stack 'third' is up" in paper("--stack", "third", "ls").err


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null", '{"stack": 1'])
def test_settings_that_cannot_be_read_are_told_plainly(paper: Cli, text: str):
    paper.path.write_text(text)
    told = paper("ls")
    assert told.code == 2
    assert told.err.startswith("tandem: ")
    assert told.err.count("\n") == 1


def test_debugging_shows_the_traceback(paper: Cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TANDEM_DEBUG", "1")
    with pytest.raises(Refused, match="no site 'elsewhere'"):
        paper("ls", "elsewhere")


@pytest.mark.parametrize(
    "words",
    [["sync"], ["verify"], ["ls", "source"], ["put", "source", "k"], ["status"]],
)
def test_a_stack_that_is_down_is_told_plainly(
    paper: Cli, words: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tandem.retrying.PAUSE", 0.001)
    told = paper(*words, input="")
    assert told.code == 2
    assert told.err.startswith("tandem: ")
    assert told.err.count("\n") == 1
    assert "127.0.0.1" in told.err
    assert told.out == ""


def test_what_libraries_log_on_the_way_to_an_error_is_not_shown(paper: Cli):
    done = subprocess.run(
        [sys.executable, "-m", "tandem.cli.main", "errors"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "function_src")},
        cwd=paper.path.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"tandem: NATS at {paper.settings.queue.url} cannot be reached")
    assert done.stderr.count("\n") == 1


def test_a_json_document_is_exact_and_plain(capsys: pytest.CaptureFixture[str]):
    terminal.document({"key": "é\x1b[1m\n[bold]"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"key": "é\x1b[1m\n[bold]"}


def test_columns_line_up_by_the_width_that_is_seen(capsys: pytest.CaptureFixture[str]):
    terminal.columns([("a", "1"), ("日本", "22")], head=("KEY", "N"), right={1})
    assert capsys.readouterr().out == "KEY    N\na      1\n日本  22\n"


def test_no_rows_are_no_table(capsys: pytest.CaptureFixture[str]):
    terminal.columns([])
    assert capsys.readouterr().out == ""
