"""Keep the project's virtual environment equal to its locked requirement files."""

import hashlib
import json
import shutil
import sys
import tomllib
from pathlib import Path

from tools import project
from tools.locks import exclusive
from tools.steps import ToolError, output, step

STAMP = ".tandem-installed"
UNFINISHED = ".tandem-unfinished"


def install(*, dev: bool, python: Path = Path(sys.executable)) -> None:
    """Bring .venv up to the runtime's requirements, or to the developers', which include them.

    Does nothing when it stands there already. An installation that was cut short is begun afresh:
    pip takes a half-copied package for a whole one. Raises ToolError with what pip said.
    """
    with exclusive(project.ROOT / "tools", ".venv"):
        name = "requirements-dev.txt" if dev else "requirements.txt"
        wanted = _wanted(name)
        present = _present()
        if all(present.get(key) == value for key, value in wanted.items()):
            return
        venv = project.VENV
        moved = present.get("root", wanted["root"]) != wanted["root"]
        if moved or (venv / UNFINISHED).exists():
            shutil.rmtree(venv)
        if not project.VENV_PYTHON.exists():
            _create(python)
        (venv / UNFINISHED).touch()
        with step(f"installing {name} into .venv", "20 s to 2 minutes"):
            _pip("--require-hashes", "--requirement", project.ROOT / name)
            # The requirements are all there, so the project itself brings nothing along.
            _pip("--no-deps", "--editable", project.ROOT)
        both = _wanted("requirements.txt") if dev else {}
        (venv / STAMP).write_text(json.dumps({**both, **wanted}))
        (venv / UNFINISHED).unlink()


def _wanted(name: str) -> dict[str, str]:
    """Digest all that decides what .venv holds: the requirements, and what makes the command."""
    described = tomllib.loads((project.ROOT / "pyproject.toml").read_text())
    own = json.dumps([described["build-system"], described["project"]], sort_keys=True)
    return {
        name: hashlib.sha256((project.ROOT / name).read_bytes()).hexdigest(),
        "project": hashlib.sha256(own.encode()).hexdigest(),
        "root": str(project.ROOT),  # the environment's scripts hold this path
    }


def _present() -> dict[str, str]:
    try:
        found = json.loads((project.VENV / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    usable = project.VENV_PYTHON.exists() and not (project.VENV / UNFINISHED).exists()
    return found if usable else {}


def _create(python: Path) -> None:
    project.VENV.mkdir(exist_ok=True)
    (project.VENV / UNFINISHED).touch()
    try:
        with step("making .venv", "5 s"):
            output([python, "-m", "venv", project.VENV])
    except ToolError as error:
        raise ToolError(
            f"{python} cannot make a virtual environment: {error}\n"
            "What to do: install Python's venv module (on Debian and Ubuntu: python3-venv).",
        ) from error


def _pip(*arguments: str | Path) -> None:
    pip = [
        str(project.VENV_PYTHON),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    output([*pip, *arguments], told=20)
