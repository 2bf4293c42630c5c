"""Find the tools in the catalogue, or get them: on PATH, in the cache, or by one of their ways.

A tool is built in a folder beside its place and renamed into it when it has answered its probe: so
what lies in `<cache>/<tool>/<version>` is complete, whatever was interrupted.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path

from tools.catalogue import TOOLS, Tool
from tools.locks import exclusive
from tools.project import cache
from tools.steps import ToolError, output, say, step
from tools.ways import carry_out, describe

PROBE_SECONDS = 30


def locate(name: str) -> Path | None:
    """Return a tool's executable, from PATH or else from the cache; None where neither has it.

    Raises KeyError when the catalogue does not know the name.
    """
    tool = TOOLS[name]
    found = _on_path(tool)
    if isinstance(found, Path):
        return found
    program = _place(tool) / (tool.program or tool.name)
    return program if program.exists() else None


def ensure(name: str) -> Path:
    """Return a tool's executable, and get the tool first where this machine does not have it.

    Raises ToolError, with every way that was tried and what each said, when none led anywhere.
    """
    found = locate(name)
    if found:
        return found
    tool = TOOLS[name]
    place = _place(tool)
    with exclusive(place.parent, tool.name):
        program = place / (tool.program or tool.name)
        if not program.exists():  # another run may have got it while this one waited
            _get(tool, place)
    return program


def _place(tool: Tool) -> Path:
    return cache() / tool.name / tool.version


def _on_path(tool: Tool) -> Path | str:
    """Return the tool that PATH offers, or why PATH has none that will do."""
    found = shutil.which(tool.name)
    if not found:
        return "not there"
    path = Path(found)
    reason = _objection(tool, path) or _missing_companion(tool, path)
    return f"{path}: {reason}" if reason else path


def _objection(tool: Tool, program: Path) -> str | None:
    """Run the tool's probe; return why what answered will not do, or None."""
    try:
        told = output([program, *tool.probe], timeout=PROBE_SECONDS)
    except ToolError as error:
        return str(error)
    match = re.search(tool.says, told)
    if not match:
        first = told.strip().splitlines()[:1] or ["nothing"]
        return f"is another program, it says: {first[0]}"
    if tool.minimum and tuple(map(int, match[1].split("."))) < tool.minimum:
        return f"is {match[1]}, older than {'.'.join(map(str, tool.minimum))}"
    return None


def _missing_companion(tool: Tool, program: Path) -> str | None:
    # A link in /usr/local/bin may point into the folder that holds them all.
    folders = os.pathsep.join(
        [str(program.parent), str(program.resolve().parent), os.environ.get("PATH", "")],
    )
    missing = [name for name in tool.companions if not shutil.which(name, path=folders)]
    return f"comes without {', '.join(missing)}" if missing else None


def _get(tool: Tool, place: Path) -> None:
    """Try each way in a folder of its own; move the first that gives a working tool into place."""
    # What an interrupted build left, and a place from which the program itself is gone.
    for leftover in [place, *place.parent.glob(".partial-*")]:
        shutil.rmtree(leftover, ignore_errors=True)
    tried = [f"PATH: {_on_path(tool)}", f"{place}: not there"]
    for way in tool.ways:
        partial = Path(tempfile.mkdtemp(dir=place.parent, prefix=".partial-"))
        try:
            with step(f"{tool.name} {tool.version}: {describe(way)}", way.usually):
                carry_out(way, partial, ensure)
                _accept(tool, partial)
                partial.rename(place)
        except (ToolError, OSError) as error:
            tried.append(f"{describe(way)}: {error}")
            say(f"    that did not work: {error}")
        else:
            return
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    ways = "\n".join(f"  - {line}" for line in tried)
    raise ToolError(f"{tool.name} cannot be had here. Tried:\n{ways}\nWhat to do: {tool.remedy}.")


def _accept(tool: Tool, partial: Path) -> None:
    program = partial / (tool.program or tool.name)
    reason = _objection(tool, program)
    if not reason:
        reason = next(
            (f"{name} is missing" for name in tool.companions if not (partial / name).exists()),
            None,
        )
    if reason:
        raise ToolError(f"what was made will not do: {program.name} {reason}")
    partial.chmod(0o755)  # mkdtemp's folders are for their maker alone
