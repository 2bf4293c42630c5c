"""Where things lie in this project and on this machine."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
RUNTIME = ROOT / ".tandem"
STATE = RUNTIME / "state"
PASSPHRASE = RUNTIME / "passphrase"


def cache() -> Path:
    """Return the folder that built tools are kept in: $TANDEM_CACHE, or ~/.cache/tandem."""
    chosen = os.environ.get("TANDEM_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "tandem"
