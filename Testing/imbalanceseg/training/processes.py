"""Trainings here and in processes of their own, which can be killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from imbalanceseg.cli.main import main
from imbalanceseg.reporting.training_report import read_log
from imbalanceseg.training.log import LOG
from imbalanceseg.training.train import RUN_FILE
from imbalanceseg.training.trainer import BEST, CHECKPOINT

ENGINE = Path(__file__).parents[3] / "ImbalanceSeg"


def command(*arguments: object) -> subprocess.Popen[str]:
    """``imbalanceseg train`` on one core: sums of several threads may be done in another order."""
    environment = os.environ | {"PYTHONPATH": str(ENGINE), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "imbalanceseg", "train", *map(str, arguments)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors


def finished_here(*arguments: object) -> None:
    """``imbalanceseg`` on one core in this process, which has imported everything."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert main([*map(str, arguments)]) == 0
    finally:
        torch.set_num_threads(threads)


def require_killing_changes_nothing(dataset: Path, work: Path, *arguments: object) -> Path:
    """Train twice, the second time killed at a random moment after planning, and resumed.

    What is killed runs in a process of its own, so that nothing but its files is left of it.

    Returns:
        The folder of the uninterrupted run.
    """
    whole, killed = work / "whole", work / "killed"
    finished_here("train", dataset, "-o", whole, *arguments)
    moment = random.uniform(0, time.time() - (whole / RUN_FILE).stat().st_mtime)
    # The second run finds files in memory and may be over before the moment comes.
    while not _killed(command(dataset, "-o", killed, *arguments), killed, moment):
        shutil.rmtree(killed)
        moment /= 2
    finished_here("train", dataset, "-o", killed, "--resume", "--progress", "none")
    require_same_training(whole, killed, f"killed {moment:.2f} s after it was planned")
    return whole


def _killed(process: subprocess.Popen[str], folder: Path, moment: float) -> bool:
    """Whether the process was still there to be killed, so long after planning."""
    while not (folder / RUN_FILE).exists():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def require_same_training(one: Path, other: Path, about: str = "") -> None:
    """Equal weights, moments and curves."""
    for file in (CHECKPOINT, BEST):
        expected, found = (load_file(run / "fold_0" / file) for run in (one, other))
        assert expected.keys() == found.keys(), about
        differing = [name for name in expected if not torch.equal(expected[name], found[name])]
        assert not differing, about
    curves = [read_log(run / "fold_0" / LOG) for run in (one, other)]
    for column in ("loss", "dice"):
        # Here NaN equals NaN: without cases held out there is no Dice.
        np.testing.assert_array_equal(curves[0][column], curves[1][column], about)
