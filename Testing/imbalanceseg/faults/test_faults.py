"""Killed at any change of a file, or with a full disk: the old version or the new one, never half.

``IMBALANCESEG_KILLS`` says at how many moments each writer is killed; ``make campaign`` takes 67,
which is a thousand in all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .writers import WRITERS

KILLS = int(os.environ.get("IMBALANCESEG_KILLS", "12"))
FAULTS = Path(__file__).with_name("disk_faults.c")
ENGINE = Path(__file__).parents[3] / "ImbalanceSeg"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        sys.platform != "linux" or shutil.which("cc") is None,
        reason="The failing disk is a C library for Linux.",
    ),
]


@pytest.fixture(scope="module")
def failing_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("faults") / "disk_faults.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(FAULTS), "-ldl"]
    subprocess.run(command, check=True)
    return library


def struck(writer: str, kind: str, points: int, library: Path, folder: Path) -> dict[str, Any]:
    """How many changes of files writing makes, and how often what came of a failing disk."""
    worker = FAULTS.with_name("worker.py")
    done = subprocess.run(
        [sys.executable, str(worker), writer, kind, str(points), "0", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ
        | {"PYTHONPATH": str(ENGINE), "OMP_NUM_THREADS": "1", "LD_PRELOAD": str(library)},
    )
    assert done.returncode == 0
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(writer, kind, found)
    return found


@pytest.mark.parametrize("writer", WRITERS)
def test_killed_at_any_moment_leaves_the_old_or_the_new(
    writer: str, failing_disk: Path, tmp_path: Path
) -> None:
    found = struck(writer, "kill", KILLS, failing_disk, tmp_path)
    assert found["changes"] > 3
    assert sum(found["outcomes"].values()) == KILLS
    for outcome in found["outcomes"]:
        ended, version = outcome.split(", ")[:2]
        # How many blocks a compressed file is written in varies by one with the time in it.
        assert ended == "signal 9" or outcome == "done, new", outcome
        assert version in ("old", "new"), outcome
    assert found["outcomes"].get("done, new", 0) < KILLS / 2


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_told_and_leaves_nothing_half(
    writer: str, failing_disk: Path, tmp_path: Path
) -> None:
    found = struck(writer, "full", max(6, KILLS // 2), failing_disk, tmp_path)
    for outcome in found["outcomes"]:
        # Once a file has its name, nothing that follows needs space.
        assert outcome in ("told, old", "told, new", "done, new"), outcome
    assert any(outcome.startswith("told") for outcome in found["outcomes"])
