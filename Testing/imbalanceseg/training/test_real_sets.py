"""The command line trains on real sets of every kind, killed at a random moment and resumed.

Toy scale, so nothing is said of quality.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from imbalanceseg.cli.main import main
from imbalanceseg.models.bundle import load_model
from imbalanceseg.reporting.training_report import read_log
from imbalanceseg.training.train import read_run

from ...Benchmarks.painted_slices import paint_dataset
from .processes import command, finished, require_killing_changes_nothing

pytestmark = pytest.mark.slow
QUICK = """
network: {name: plan, width: 0.25}
supervision: {kind: deep}
ema: 0.9
batch: 1
patch: %s
"""


@pytest.fixture
def trains(tmp_path: Path):
    """Trains for a few steps, killed and not, and gives the loss that was planned."""

    def run(dataset: Path, *arguments: str, patch: str = "[32, 32, 32]") -> str:
        recipe = tmp_path / "quick.yaml"
        recipe.write_text(QUICK % patch)
        given = ["--iterations", "6", "--progress", "none", *arguments]
        if "--recipe" not in arguments:
            given += ["--recipe", str(recipe)]
        folder = require_killing_changes_nothing(dataset, tmp_path, *given)
        assert np.isfinite(read_log(folder / "fold_0" / "log.csv")["loss"]).all()
        load_model(folder / "model").verify()
        return read_run(folder).plan.loss

    return run


def some(folder: Path, copy: Path, most: int) -> Path:
    for part in ("images", "labels"):
        (copy / part).mkdir(parents=True)
        for path in sorted((folder / part).iterdir())[:most]:
            shutil.copy(path, copy / part / path.name)
    return copy


def test_hippocampus_dense(trains, data_folder, tmp_path):
    assert trains(some(data_folder / "hippocampus" / "train", tmp_path / "set", 5)) == "dice_ce"


def test_hippocampus_from_three_painted_slices_a_case(trains, data_folder, tmp_path):
    sparse = paint_dataset(data_folder / "hippocampus" / "train", tmp_path / "set", 5)
    assert trains(sparse) == "partial_label"


def test_lesions_of_multiple_sclerosis(trains, data_folder, tmp_path):
    lesions = data_folder / "ms_lesions_mni"
    cases = [
        {
            "image": [str(lesions / f"{name}_flair.nii.gz"), str(lesions / f"{name}_t1.nii.gz")],
            "label": str(lesions / f"{name}_lesions.nii.gz"),
        }
        for name in ("patient07", "patient19")
    ]
    datalist = tmp_path / "datalist.json"
    datalist.write_text(json.dumps({"training": cases}))
    assert trains(datalist) == "blob"


def test_touching_nuclei_with_the_border_map(trains, data_folder, tmp_path):
    nuclei = some(data_folder / "nuclei_2d" / "train", tmp_path / "set", 4)
    text = (
        "network: {name: unet2d, settings: {features: [8, 16, 32]}}\n"
        "loss: {name: weighted_ce, weight: %s}\npatch: [64, 64]\nbatch: 2\n"
    )
    losses = []
    for weight in ("border", "none"):
        recipe = tmp_path / f"{weight}.yaml"
        recipe.write_text(text % weight)
        arguments = ["--instances", "--recipe", str(recipe)]
        if weight == "border":
            trains(nuclei, *arguments)
            folder = tmp_path / "whole"
        else:
            folder = tmp_path / "plain"
            finished(command(nuclei, "-o", folder, "--iterations", 1, *arguments))
        losses.append(read_log(folder / "fold_0" / "log.csv")["loss"][0])
    # The same weights and patches in the first step, so the map alone tells them apart.
    assert abs(losses[0] - losses[1]) > 1e-3


def test_airway_phantoms(trains, tmp_path):
    arguments = ["--seed", "1", "--spacing", "3", "--cases", "2"]
    assert main(["phantom", "airway", "-o", str(tmp_path / "set"), *arguments]) == 0
    assert trains(tmp_path / "set") == "general_union"
