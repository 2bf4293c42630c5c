"""Where things lie in this project and on this machine."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
RUNTIME = ROOT / ".tandem"
STATE = RUNTIME / "state"
PASSPHRASE = RUNTIME / "passphrase"


def backend() -> str:
    """Return the address of the project's own state, as Pulumi is given it.

    Without `metadata=skip` Pulumi keeps an `.attrs` file beside each file and writes it in place: a
    run killed at that moment leaves a stack that says "failed to load checkpoint: EOF" ever after
    (gocloud.dev/blob/fileblob, setAttrs). The state itself is replaced by a rename.
    """
    return f"{STATE.as_uri()}?metadata=skip"


def cache() -> Path:
    """Return the folder that built tools are kept in: $TANDEM_CACHE, or ~/.cache/tandem."""
    chosen = os.environ.get("TANDEM_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "tandem"
