"""Run as many examples of the model as one likes: `python -m tests.model --examples 50000`.

The examples are shared evenly by the configurations, and cut into chunks that run side by side,
each from a seed of its own that follows from `--seed`. A violation is told with its steps, its
configuration and its seed, and does not stop the others.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.model.configurations import CONFIGURATIONS
from tests.model.search import search
from tests.model.tally import Tally

CHUNK = 250


def run(name: str, examples: int, start: int) -> tuple[Tally, str]:
    """Return what a chunk came to, and the violation if there is one."""
    try:
        return search(name, examples, start), ""
    except AssertionError as error:
        notes = "\n".join(getattr(error, "__notes__", ()))
        return Tally(), f"{name!r}, seed {start}:\n{traceback.format_exc()}\n{notes}"


def main() -> int:
    """Run, and return the exit code: 1 if the contract was violated."""
    options = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    options.add_argument("--examples", type=int, default=2000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--jobs", type=int, default=2)
    chosen = options.parse_args()
    each = -(-chosen.examples // len(CONFIGURATIONS))
    chunks = [
        (name, min(CHUNK, each - begun), chosen.seed + begun // CHUNK)
        for begun in range(0, each, CHUNK)
        for name in CONFIGURATIONS
    ]
    total, violations, started = Tally(), 0, time.monotonic()
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for ended in as_completed([pool.submit(run, *chunk) for chunk in chunks]):
            tally, violation = ended.result()
            total.add(tally)
            if violation:
                violations += 1
                print(violation, flush=True)
            print(f"{time.monotonic() - started:8.0f} s: {total}", flush=True)
    print(f"seed {chosen.seed}, {len(CONFIGURATIONS)} configurations, {violations} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
