"""The Pulumi programs, beside the settings of each of their stacks."""

import sys
from pathlib import Path

# A plain `pulumi up` installs requirements.txt and not the project itself, so that `tandem`, whose
# settings types the stacks share, is found here and not in .venv.
_SOURCE = str(Path(__file__).parents[1] / "function_src")
if _SOURCE not in sys.path:
    sys.path.append(_SOURCE)
