"""Carry out the ways to get a tool: each leaves its programs in the folder that it is given."""

import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tools import project
from tools.catalogue import GoBuild, GoModule, OfficialScript, PythonPackage, Way
from tools.steps import ToolError, output

HERE = Path(__file__).parent
# Nobody debugs these programs, and a quarter of the time to build them goes into making that easy.
STRIPPED, NO_DEBUGGER = "-s -w", "-gcflags=all=-dwarf=false"
SITE_SECONDS = 10  # a site that is not to be had must not hold the next way up
SCRIPT_SECONDS = 600


def describe(way: Way) -> str:
    """Name a way in the few words that an error message needs."""
    match way:
        case GoBuild(modules=modules):
            return f"build with Go from {modules[0].package}"
        case OfficialScript(url=url):
            return f"installation script from {url}"
        case PythonPackage(requirements=requirements):
            return f"Python package in tools/{requirements}"


def carry_out(way: Way, folder: Path, ensure: Callable[[str], Path]) -> None:
    """Put a tool's programs into `folder`, an empty one; `ensure` finds the tools that it needs.

    Raises ToolError when the way leads nowhere on this machine.
    """
    match way:
        case GoBuild(modules=modules):
            go = ensure("go")
            for module in modules:
                _build(go, module, folder)
        case OfficialScript():
            _run_script(way, folder)
        case PythonPackage():
            _install_package(way, folder)


def _build(go: Path, module: GoModule, folder: Path) -> None:
    """Build in a module of our own: `go install pkg@version` refuses modules with replace lines."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".module-") as name:
        work = Path(name)
        # The pinned Go is new enough, and a workspace of the user's is none of our business.
        # Without cgo no C compiler is needed.
        own = {"GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}
        environment = {**os.environ, **own}

        def run(*arguments: str) -> str:
            return output([go, *arguments], cwd=work, env=environment)

        run("mod", "init", "build")
        run("get", f"{module.package}@{module.version}")
        program = folder / module.package.rsplit("/", 1)[-1]
        flags = ("-ldflags", f"{STRIPPED} {module.ldflags}", NO_DEBUGGER)
        run("build", *flags, "-o", str(program), module.package)
        if module.files:
            source = Path(run("list", "-m", "-f", "{{.Dir}}", module.files_module).strip())
            for file in module.files:
                target = folder / Path(file).name
                shutil.copyfile(source / file, target)
                target.chmod(0o755)


def _run_script(way: OfficialScript, folder: Path) -> None:
    try:
        with urllib.request.urlopen(way.url, timeout=SITE_SECONDS) as answer:  # noqa: S310  # https, from the catalogue
            script = answer.read()
    except (OSError, urllib.error.URLError) as error:
        raise ToolError(str(getattr(error, "reason", error))) from error
    with tempfile.TemporaryDirectory(dir=folder, prefix=".script-") as name:
        file = Path(name) / "install.sh"
        file.write_bytes(script)
        output(["sh", file, *way.arguments, Path(name)], timeout=SCRIPT_SECONDS)
        for program in sorted((Path(name) / "bin").iterdir()):
            program.rename(folder / program.name)


def _install_package(way: PythonPackage, folder: Path) -> None:
    # The system's Python may come without pip; the project's own never does.
    own = project.VENV_PYTHON
    python = own if own.exists() else Path(sys.executable)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    choice = ["--no-deps", "--only-binary", ":all:", "--require-hashes"]
    output([*pip, *choice, "--target", folder, "--requirement", HERE / way.requirements])
