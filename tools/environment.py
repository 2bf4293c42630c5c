"""The environment that Pulumi runs in: where its state lies, its passphrase, and its PATH."""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from tools import project
from tools.install import locate

TOOLS_ON_PATH = ("pulumi", "minio", "mc")


def for_pulumi(user: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that Pulumi needs beside the user's own, which are never overruled.

    Unless the user has chosen a backend, state goes into the project's `.tandem/state`, and its
    secrets are encrypted with a passphrase made once, unless the user has given one. A backend that
    the user has chosen may be shared: a passphrase that lies on one machine is no use there.
    """
    added = {"PATH": path(user), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    if chosen_backend(user):
        return added
    project.STATE.mkdir(parents=True, exist_ok=True)
    added["PULUMI_BACKEND_URL"] = project.backend()
    if not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & user.keys():
        added["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(_passphrase())
    return added


def chosen_backend(user: Mapping[str, str]) -> str | None:
    """Return the backend that the user has chosen, by a variable or by `pulumi login`, or None."""
    if user.get("PULUMI_BACKEND_URL") == project.backend():
        return None  # ours: the variable comes from `python3 -m tools env`
    if user.get("PULUMI_BACKEND_URL"):
        return user["PULUMI_BACKEND_URL"]
    if user.get("PULUMI_ACCESS_TOKEN"):
        return "Pulumi Cloud, by PULUMI_ACCESS_TOKEN"
    home = Path(user.get("PULUMI_HOME") or Path.home() / ".pulumi")
    folder = Path(user.get("PULUMI_CREDENTIALS_PATH") or home)
    try:
        current = json.loads((folder / "credentials.json").read_text()).get("current")
    except (OSError, ValueError):
        return None
    return current or None


def path(user: Mapping[str, str]) -> str:
    """Return a PATH that has .venv/bin first, then the cached tools, then what the user has.

    Pulumi's older language host runs whatever python3 PATH offers.
    """
    given = user.get("PATH", os.defpath).split(os.pathsep)
    found = [str(program.parent) for name in TOOLS_ON_PATH if (program := locate(name))]
    cached = [folder for folder in found if folder not in given]
    return os.pathsep.join(dict.fromkeys([str(project.VENV / "bin"), *cached, *given]))


def _passphrase() -> Path:
    """Return the file that holds the project's passphrase, making it, whole or not at all."""
    file = project.PASSPHRASE
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(32) + "\n")
        try:
            os.link(draft, file)  # unlike a rename, it never overwrites one made meanwhile
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return file
