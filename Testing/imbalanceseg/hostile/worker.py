"""Reads mutated files, one after another, and says of each what came of it.

python worker.py READER SEED FIRST COUNT FOLDER [WORST]

The inputs that took longest are kept in the folder WORST, where one is named.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))

from commands import COMMANDS
from mutations import mutated
from readers import READERS

from imbalanceseg.errors import ImbalanceSegError

_MEMORY_BEYOND = 3 * 2**30
_KEPT = 3


def main() -> None:
    """See the module."""
    name, seed, first, count = sys.argv[1], *map(int, sys.argv[2:5])
    folder, reader = Path(sys.argv[5]), {**READERS, **COMMANDS}[sys.argv[1]]
    warnings.simplefilter("ignore")
    # What a library prints must not come between the rows.
    rows = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    place = folder / "seeds"
    place.mkdir(exist_ok=True)
    seeds = reader.seeds(place)
    path = folder / f"input{reader.suffix}"
    path.write_bytes(seeds[0])
    # What good files need, libraries included, is there before memory is limited.
    reader.read(path)
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + _MEMORY_BEYOND,) * 2)
    worst: list[tuple[float, int, bytes]] = []
    for number in range(first, first + count):
        content = mutated(seeds, np.random.default_rng([seed, number]))
        path.write_bytes(content)
        # Before it is read, so that a reader that dies is known by its input.
        print(json.dumps({"begun": number}), file=rows, flush=True)
        began = time.perf_counter()
        try:
            reader.read(path)
            outcome = "result"
        except ImbalanceSegError as error:
            outcome = error.code
        except BaseException as error:
            outcome = f"fault: {type(error).__name__}: {error}"[:300]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seconds = round(time.perf_counter() - began, 4)
        row = {"number": number, "outcome": outcome, "peak_mib": round(peak), "seconds": seconds}
        print(json.dumps(row), file=rows, flush=True)
        worst = sorted([*worst, (seconds, number, content)], reverse=True)[:_KEPT]
    if len(sys.argv) > 6:
        for _, number, content in worst:
            (Path(sys.argv[6]) / f"{name}-{number}{reader.suffix}").write_bytes(content)


if __name__ == "__main__":
    main()
