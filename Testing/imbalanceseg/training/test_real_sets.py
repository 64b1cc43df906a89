"""The command line trains on real sets of every kind, killed at a random moment and resumed.

Toy scale, so nothing is said of quality.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.cli.main import main
from imbalanceseg.models.bundle import load_model
from imbalanceseg.reporting.training_report import read_log
from imbalanceseg.training.train import read_run

from ...Benchmarks.painted_slices import paint_dataset
from .processes import finished_here, require_killing_changes_nothing

pytestmark = pytest.mark.slow
QUICK = """
network: {name: plan, width: 0.25}
supervision: {kind: deep}
ema: 0.9
batch: 1
patch: [32, 32, 32]
validate_every: 2
"""
SIDE = 32
"""Of what is left of every case: one patch of the recipe, so that judging it is one tile."""


@pytest.fixture
def trains(tmp_path: Path):
    """Trains for a few steps, killed and not, and gives the loss that was planned."""

    def run(dataset: Path, *arguments: str) -> str:
        recipe = tmp_path / "quick.yaml"
        recipe.write_text(QUICK)
        given = ["--iterations", "4", "--progress", "none", *arguments]
        if "--recipe" not in arguments:
            given += ["--recipe", str(recipe)]
        folder = require_killing_changes_nothing(dataset, tmp_path, *given)
        assert np.isfinite(read_log(folder / "fold_0" / "log.csv")["loss"]).all()
        load_model(folder / "model").verify()
        return read_run(folder).plan.loss

    return run


def cut(label: Path, to: dict[Path, Path], side: int = SIDE) -> None:
    """Write the part of a label and its images around the middle of the foreground."""
    places = np.argwhere(sitk.GetArrayViewFromImage(sitk.ReadImage(label)) > 0)
    for source, target in to.items():
        image = sitk.ReadImage(source)
        size = np.minimum(image.GetSize(), side)
        start = np.clip(places.mean(0)[::-1] - size / 2, 0, image.GetSize() - size)
        part = sitk.RegionOfInterest(image, size.tolist(), start.astype(int).tolist())
        sitk.WriteImage(part, target)


def some(folder: Path, copy: Path, most: int, side: int = SIDE) -> Path:
    """The first cases of a set, cut."""
    for part in ("images", "labels"):
        (copy / part).mkdir(parents=True)
    for label in sorted((folder / "labels").iterdir())[:most]:
        names = [Path(part) / label.name for part in ("images", "labels")]
        cut(label, {folder / name: copy / name for name in names}, side)
    return copy


def test_hippocampus_dense(trains, data_folder, tmp_path):
    assert trains(some(data_folder / "hippocampus" / "train", tmp_path / "set", 3)) == "dice_ce"


def test_hippocampus_from_three_painted_slices_a_case(trains, data_folder, tmp_path):
    dense = some(data_folder / "hippocampus" / "train", tmp_path / "dense", 3)
    assert trains(paint_dataset(dense, tmp_path / "set")) == "partial_label"


def test_lesions_of_multiple_sclerosis(trains, data_folder, tmp_path):
    lesions, cases = data_folder / "ms_lesions_mni", []
    for name in ("patient07", "patient19"):
        files = [f"{name}_{what}.nii.gz" for what in ("flair", "t1", "lesions")]
        cut(lesions / files[2], {lesions / file: tmp_path / file for file in files})
        *images, label = (str(tmp_path / file) for file in files)
        cases.append({"image": images, "label": label})
    datalist = tmp_path / "datalist.json"
    datalist.write_text(json.dumps({"training": cases}))
    assert trains(datalist) == "blob"


def test_touching_nuclei_with_the_border_map(trains, data_folder, tmp_path):
    nuclei = some(data_folder / "nuclei_2d" / "train", tmp_path / "set", 3, 128)
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
            finished_here("train", nuclei, "-o", folder, "--iterations", 1, *arguments)
        losses.append(read_log(folder / "fold_0" / "log.csv")["loss"][0])
    # The same weights and patches in the first step, so the map alone tells them apart.
    assert abs(losses[0] - losses[1]) > 1e-3


def test_airway_phantoms(trains, tmp_path):
    arguments = ["--seed", "1", "--spacing", "3", "--cases", "2"]
    assert main(["phantom", "airway", "-o", str(tmp_path / "set"), *arguments]) == 0
    assert trains(tmp_path / "set") == "general_union"
