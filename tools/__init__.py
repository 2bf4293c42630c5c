"""Get the tools that Tandem stands on, and run its stacks with them.

The standard library alone is used here: all of it runs before the project's .venv exists.
"""

import sys

OLDEST_PYTHON = (3, 11)

# Here, not in __main__: an older Python refuses that module's syntax before it could say anything.
if sys.version_info < OLDEST_PYTHON:
    sys.exit(
        f"Tandem needs Python 3.11 or later, and {sys.executable} is {sys.version.split()[0]}. "
        "Name a newer one: make PYTHON=python3.12 up"
    )
