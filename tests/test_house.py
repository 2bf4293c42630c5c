"""The dependency rule and the sizes that DESIGN asks of the house."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"tandem", "service", "stacks", "tools"}
SDKS = {"aiohappyeyeballs", "boto3", "botocore", "httptools", "nats", "oci"}
# One SDK may come as several packages.
FAMILY = {"botocore": "boto3"}
WORDLESS = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def imported(path: Path) -> set[str]:
    """Return the full names of the modules that a file imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def packages(path: Path) -> set[str]:
    """Return the top-level packages a file imports that are neither ours nor the standard's."""
    tops = {name.split(".")[0] for name in imported(path)}
    return tops - OURS - set(sys.stdlib_module_names)


CORE = [path for path in sources("function_src/tandem") if path.parent.name == "tandem"]
SEAMS = [
    path for path in sources("function_src/tandem") if path.parent.name in {"stores", "queues"}
]


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_core_modules_import_the_standard_library_only(path: Path):
    assert packages(path) == set()


@pytest.mark.parametrize("path", SEAMS, ids=lambda path: path.name)
def test_a_store_or_queue_imports_at_most_one_sdk(path: Path):
    sdks = {FAMILY.get(name, name) for name in packages(path)}
    assert len(sdks) <= 1
    assert sdks <= SDKS


@pytest.mark.parametrize("path", sources("function_src"), ids=lambda path: path.stem)
def test_nothing_that_is_deployed_imports_pulumi(path: Path):
    assert not {"pulumi", "stacks", "tools"} & {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", sources("stacks"), ids=lambda path: path.stem)
def test_stacks_know_the_settings_of_the_replicator_and_no_more(path: Path):
    ours = {name for name in imported(path) if name.split(".")[0] in {"tandem", "service"}}
    assert ours <= {"tandem.settings", "tandem.rule", "tandem.errors", "tandem.change"}


@pytest.mark.parametrize("path", sources("tools"), ids=lambda path: path.stem)
def test_tools_run_before_anything_is_installed(path: Path):
    assert packages(path) == set()
    assert "tandem" not in {name.split(".")[0] for name in imported(path)}


def test_modules_stay_near_300_lines():
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in ("function_src", "stacks", "tools")
        for path in sources(folder)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 340
    }
    assert long == {}


def test_functions_stay_near_40_lines():
    long = {
        f"{path.relative_to(ROOT)}:{node.name}": lines
        for folder in ("function_src", "stacks", "tools")
        for path in sources(folder)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > 50
    }
    assert long == {}


def test_every_module_has_a_name_that_says_something():
    named = {
        path.stem for folder in ("function_src", "stacks", "tools") for path in sources(folder)
    }
    assert named & WORDLESS == set()
