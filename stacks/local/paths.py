"""Where the processes of a stack keep what they need, relative to the project.

What Pulumi remembers holds relative paths only, so that a project may move without a change.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Stands in commands and environments for the absolute path of the stack's folder.
HOME = "{home}"
# Likewise for the project's.
PROJECT = "{project}"


def home(stack: str) -> str:
    """Return the folder of a stack, relative to the project."""
    return f".tandem/{stack}"


def absolute(text: str, folder: str) -> str:
    """Put the absolute paths of a stack's folder and of the project into a text."""
    return text.replace(HOME, str(ROOT / folder)).replace(PROJECT, str(ROOT))
