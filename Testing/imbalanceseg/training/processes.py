"""Trainings in processes of their own, which can be killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from imbalanceseg.reporting.training_report import read_log
from imbalanceseg.training.train import RUN_FILE
from imbalanceseg.training.trainer import BEST, CHECKPOINT, LOG

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


def require_killing_changes_nothing(dataset: Path, work: Path, *arguments: object) -> Path:
    """Train twice, the second time killed at a random moment and resumed.

    Returns:
        The folder of the uninterrupted run.
    """
    whole, killed = work / "whole", work / "killed"
    begin = time.monotonic()
    finished(command(dataset, "-o", whole, *arguments))
    moment = random.uniform(0, 0.9) * (time.monotonic() - begin)
    process = command(dataset, "-o", killed, *arguments)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(moment)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    # Before it has planned, nothing is there to be resumed.
    again = ("--resume",) if (killed / RUN_FILE).exists() else arguments
    finished(command(dataset, "-o", killed, *again))
    require_same_training(whole, killed, f"killed after {moment:.2f} s")
    return whole


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
