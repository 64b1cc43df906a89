"""Many mutated files for one reader: what came of them, and at what cost."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

WORKER = Path(__file__).with_name("worker.py")
ENGINE = Path(__file__).parents[3] / "ImbalanceSeg"
LIMIT_S = 30.0
"""A command that is given a good file does its work; reading takes far less."""
_START_S = 120.0
_TRACE = ", line "


@dataclass
class Campaign:
    """What came of the inputs of one reader.

    Attributes:
        outcomes: how many ended in a result, and how many in each code.
        faults: number of the input and what happened, for those that ended otherwise.
        slowest: seconds and number of the input that took longest.
        peak_mib: memory of the process at its largest, that of a good file included.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)
    peak_mib: int = 0


def run_campaign(reader: str, count: int, seed: int = 0, worst: Path | None = None) -> Campaign:
    """Try so many inputs; a process that dies or hangs is replaced and its input is a fault.

    Args:
        reader: its name.
        count: how many.
        seed: of the changes.
        worst: folder that receives the inputs that took longest.
    """
    made = Campaign()
    first = 0
    while first < count:
        # A file, because a pipe that nobody empties stops who writes to it.
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as told:
            asked = [reader, str(seed), str(first), str(count - first), folder]
            asked += [str(worst)] if worst else []
            first = _until_it_dies(made, asked, first, count, told)
            told.seek(0)
            if _TRACE in told.read():
                made.faults.append((first, "a trace was written to the terminal"))
    return made


def _until_it_dies(made: Campaign, asked: list[str], first: int, count: int, told: IO[str]) -> int:
    """Number of the input to go on with; ``told`` is what the terminal would show."""
    process = subprocess.Popen(
        [sys.executable, str(WORKER), *asked],
        stdout=subprocess.PIPE,
        stderr=told,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ENGINE), "OMP_NUM_THREADS": "1"},
    )
    lines: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=listen, daemon=True).start()
    began, done = -1, first
    try:
        while True:
            line = lines.get(timeout=_START_S if began < 0 else LIMIT_S)
            if line is None:
                break
            row = json.loads(line)
            if "begun" in row:
                began = row["begun"]
                continue
            done = row["number"] + 1
            _count(made, row)
    except queue.Empty:
        process.kill()
        made.faults.append((began, f"no end within {LIMIT_S:g} s"))
        return max(done, began + 1)
    code = process.wait()
    if code == 0:
        return count
    told.seek(0)
    said = told.read().strip().splitlines()[-1:]
    if began < 0:
        raise AssertionError(f"The worker of {asked[0]} does not start: {said}")
    made.faults.append((began, f"the process ended with {code} {said}"))
    return max(done, began + 1)


def _count(made: Campaign, row: dict[str, object]) -> None:
    outcome, number = str(row["outcome"]), int(str(row["number"]))
    if outcome.startswith("fault"):
        made.faults.append((number, outcome))
    else:
        made.outcomes[outcome] += 1
    made.slowest = max(made.slowest, (float(str(row["seconds"])), number))
    made.peak_mib = max(made.peak_mib, int(str(row["peak_mib"])))


if __name__ == "__main__":
    # python campaign.py COUNT WORST READER...
    for name in sys.argv[3:]:
        found = run_campaign(name, int(sys.argv[1]), worst=Path(sys.argv[2]))
        print(name, dict(found.outcomes.most_common()), found.slowest, found.peak_mib, flush=True)
        for fault in found.faults[:12]:
            print("   ", fault, flush=True)
