"""A project and a machine of the tests' own: its PATH, its cache, and programs that pretend."""

import os
import sys
from pathlib import Path

import pytest

from tools import project


class Machine:
    """A folder that is the whole PATH, a cache, and a project; `log` tells what was called."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.cache = folder / "cache"
        self.root = folder / "project"
        self.log = folder / "log"
        self.bin.mkdir()
        self.root.mkdir()
        self.log.touch()

    def program(self, name: str, body: str) -> Path:
        """Put a Python program on PATH that first writes its arguments down."""
        file = self.bin / name
        file.write_text(
            f"#!{sys.executable}\n"
            "import os, pathlib, shutil, sys, time\n"
            f"with open({str(self.log)!r}, 'a') as log: print({name!r}, *sys.argv[1:], file=log)\n"
            f"{body}\n"
        )
        file.chmod(0o755)
        return file

    def calls(self, beginning: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line.startswith(beginning)]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setenv("PATH", str(machine.bin))
    monkeypatch.setenv("TANDEM_CACHE", str(machine.cache))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith("PULUMI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(project, "ROOT", machine.root)
    monkeypatch.setattr(project, "VENV", machine.root / ".venv")
    monkeypatch.setattr(project, "VENV_PYTHON", machine.root / ".venv" / "bin" / "python")
    monkeypatch.setattr(project, "RUNTIME", machine.root / ".tandem")
    monkeypatch.setattr(project, "STATE", machine.root / ".tandem" / "state")
    monkeypatch.setattr(project, "PASSPHRASE", machine.root / ".tandem" / "passphrase")
    return machine
