"""Writes again and again on a disk that fails, each time in a process of its own.

python worker.py WRITER KIND POINTS SEED FOLDER, with ``disk_faults.c`` loaded before the C library.
KIND is ``kill`` or ``full``. Prints one JSON object.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import shutil
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import SimpleITK as sitk

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))

from writers import WRITERS, Writer

from imbalanceseg.errors import OutputError

COUNT, KILL, FULL = range(3)
_DONE, _TOLD, _FAULT = 0, 10, 11
_LIMIT_S = 60


def main() -> None:
    """See the module."""
    name, kind, points, seed = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:5])
    folder = Path(sys.argv[5])
    warnings.simplefilter("ignore")
    # A process that was forked has none of the threads of a pool.
    sitk.ProcessObject.SetGlobalDefaultThreader("Platform")
    faults = ctypes.CDLL(None)
    faults.faults_seen.restype = ctypes.c_long
    writer = WRITERS[name]()
    known = {}
    for version in (0, 1):
        place = folder / f"version{version}" / "place"
        place.mkdir(parents=True)
        writer.write(place, 0)
        if version:
            writer.write(place, 1)
        known[str(writer.read(place))] = ("old", "new")[version]
    assert len(known) == 2
    changes = _changes(writer, faults, folder)
    draw = np.random.default_rng(seed)
    outcomes: Counter[str] = Counter()
    for _ in range(points):
        at = 1 + int(draw.integers(changes))
        place = _fresh(folder)
        ended = _struck(writer, faults, place, {"kill": KILL, "full": FULL}[kind], at)
        left = sorted(p.name for p in place.iterdir() if p.name.startswith("."))
        try:
            found = known.get(str(writer.read(place)), "neither")
        except Exception as error:
            found = f"damaged: {type(error).__name__}: {error}"[:200]
        outcomes[f"{ended}, {found}" + (f", left {len(left)}" if left else "")] += 1
    print(json.dumps({"changes": changes, "outcomes": outcomes}))


def _fresh(folder: Path) -> Path:
    """A copy of the old version."""
    place = folder / "trial" / "place"
    shutil.rmtree(place.parent, ignore_errors=True)
    shutil.copytree(folder / "version0", place.parent)
    return place


def _changes(writer: Writer, faults: ctypes.CDLL, folder: Path) -> int:
    """How many changes of files writing the new version makes."""
    place = _fresh(folder)
    # What writing loads and keeps is there before changes are counted.
    writer.write(place, 1)
    place = _fresh(folder)
    faults.faults_arm(COUNT, ctypes.c_long(0))
    writer.write(place, 1)
    return int(faults.faults_seen())


def _struck(writer: Writer, faults: ctypes.CDLL, place: Path, kind: int, at: int) -> str:
    """How a process ends whose disk fails at a change."""
    process = os.fork()
    if process == 0:
        code = _DONE
        # A process that was forked at a bad moment says where it waits.
        faulthandler.dump_traceback_later(_LIMIT_S, exit=True)
        try:
            faults.faults_arm(kind, ctypes.c_long(at))
            writer.write(place, 1)
        except OutputError:
            code = _TOLD
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            code = _FAULT
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    code = os.WEXITSTATUS(status)
    return {_DONE: "done", _TOLD: "told", _FAULT: "fault"}.get(code, f"code {code}")


if __name__ == "__main__":
    main()
