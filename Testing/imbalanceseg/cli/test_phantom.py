"""``imbalanceseg phantom``: one scan with its truth, and training sets."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from imbalanceseg.cli.main import app
from imbalanceseg.geometry import Grid, image_from_array, require_same_grid
from imbalanceseg.io import read_image
from imbalanceseg.planning.dataset import open_dataset, read_case

GRID = Grid((16, 14, 12), (0.8, 0.8, 3.0), (5, -6, 7), (1, 0, 0, 0, 1, 0, 0, 0, 1))
MAKERS = {
    "airway": "imbalanceseg.synthesis.airway.chest_phantom",
    "tumor": "imbalanceseg.synthesis.tumor.tumor_phantom",
    "lesion": "imbalanceseg.synthesis.lesions.lesion_phantom",
}
Asked = list[tuple[tuple[object, ...], dict[str, object]]]
runner = CliRunner()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Phantoms made in no time, and what was asked of their makers."""
    calls: Asked = []

    def make(seed: int, *more: object, **named: object) -> tuple[sitk.Image, sitk.Image]:
        calls.append(((seed, *more), named))
        labels = np.zeros(GRID.size[::-1], np.uint8)
        labels[3:6, 4:9, 4:9] = 1
        image = np.full(labels.shape, seed, np.float32)
        return image_from_array(image, GRID), image_from_array(labels, GRID)

    for name in MAKERS.values():
        monkeypatch.setattr(name, make)
    return calls


@pytest.mark.parametrize(
    ("command", "segment", "code"),
    [
        ("airway", "Airway tree", "110726009"),
        ("tumor", "Tumor", "108369006"),
        ("lesion", "Lesion", "52988006"),
    ],
)
def test_a_phantom_is_a_scan_and_a_segmentation(
    command: str, segment: str, code: str, asked: Asked, tmp_path: Path
) -> None:
    result = runner.invoke(app, ["phantom", command, "-o", str(tmp_path / "new"), "--seed", "7"])
    assert result.exit_code == 0, (result.output, result.exception)
    assert sorted(os.listdir(tmp_path / "new")) == ["image.nrrd", "labels.nrrd"]
    image, labels = (read_image(tmp_path / "new" / f"{n}.nrrd") for n in ("image", "labels"))
    require_same_grid(image, labels, ("image", "labels"))
    assert (sitk.GetArrayFromImage(image) == 7).all()
    assert labels.GetMetaData("Segment0_Name") == segment
    assert code in labels.GetMetaData("Segment0_Tags")
    for name in ("image.nrrd", "labels.nrrd"):
        assert str(tmp_path / "new" / name) in result.output


def test_options_reach_the_makers(asked: Asked, tmp_path: Path) -> None:
    for arguments in (
        ["airway", "--difficulty", "0.2", "--spacing", "1.5"],
        ["tumor", "--kind", "glioma", "--contrast", "T2", "--slices", "5", "--difficulty", "1"],
        ["lesion", "--difficulty", "0", "--spacing", "1.25", "--skull"],
    ):
        result = runner.invoke(app, ["phantom", *arguments, "-o", str(tmp_path), "--seed", "2"])
        assert result.exit_code == 0, (result.output, result.exception)
    assert asked == [
        ((2,), {"spacing_mm": 1.5, "difficulty": 0.2}),
        ((2, "glioma", "T2", (0.8, 0.8, 5.0)), {"difficulty": 1.0}),
        ((2, 1.25), {"difficulty": 0.0, "brain_only": False}),
    ]


@pytest.mark.parametrize(
    ("arguments", "task", "channel"),
    [
        (["airway"], "airway", "CT"),
        (["tumor"], "schwannoma", "T1c"),
        (["tumor", "--kind", "glioma", "--contrast", "T2"], "glioma", "T2"),
        (["lesion"], "lesion", "FLAIR"),
    ],
)
def test_many_cases_are_a_training_set(
    arguments: list[str], task: str, channel: str, asked: Asked, tmp_path: Path
) -> None:
    command = ["phantom", *arguments, "-o", str(tmp_path), "--seed", "5", "--cases", "3"]
    for _ in range(2):
        result = runner.invoke(app, command)
        assert result.exit_code == 0, (result.output, result.exception)
    assert sorted(os.listdir(tmp_path)) == ["dataset.json", "imagesTr", "labelsTr"]
    assert json.loads((tmp_path / "dataset.json").read_text()) == {
        "channel_names": {"0": channel},
        "labels": {"background": 0, task: 1},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    dataset = open_dataset(tmp_path)
    assert [c.name for c in dataset.cases] == [f"{task}_{n:04d}" for n in (5, 6, 7)]
    assert [call[0][0] for call in asked] == [5, 6, 7] * 2
    for number, case in zip((5, 6, 7), dataset.cases, strict=True):
        arrays = read_case(dataset, case)
        assert arrays.label is not None
        assert (arrays.image == number).all()
        assert arrays.label.sum() == 75


def test_cases_of_another_run_are_not_mixed_in(asked: Asked, tmp_path: Path) -> None:
    command = ["phantom", "lesion", "-o", str(tmp_path), "--cases", "2"]
    assert runner.invoke(app, [*command, "--seed", "0"]).exit_code == 0
    refused = runner.invoke(app, [*command, "--seed", "1"])
    assert getattr(refused.exception, "code", None) == "output-folder-not-empty"
    assert sorted(os.listdir(tmp_path / "labelsTr")) == [
        "lesion_0000.nii.gz",
        "lesion_0001.nii.gz",
    ]


def test_a_series_is_written_for_one_phantom_only(asked: Asked, tmp_path: Path) -> None:
    command = ["phantom", "airway", "-o", str(tmp_path), "--dicom", "--cases", "2"]
    refused = runner.invoke(app, command)
    assert getattr(refused.exception, "code", None) == "dicom-of-many-cases"
    assert not asked


def test_a_difficulty_that_is_no_number_is_refused(tmp_path: Path) -> None:
    command = ["phantom", "lesion", "-o", str(tmp_path / "new"), "--difficulty", "nan"]
    refused = runner.invoke(app, command)
    assert refused.exit_code == 2
    assert "--difficulty" in refused.output
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["schwannoma", "glioma"])
def test_a_tumor_for_real(kind: str, tmp_path: Path) -> None:
    command = ["phantom", "tumor", "-o", str(tmp_path), "--kind", kind]
    result = runner.invoke(app, [*command, "--spacing", "2.5", "--slices", "6"])
    assert result.exit_code == 0, (result.output, result.exception)
    labels = read_image(tmp_path / "labels.nrrd")
    assert labels.GetSpacing() == (2.5, 2.5, 6.0)
    assert sitk.GetArrayFromImage(labels).any()


def test_lesions_for_real(tmp_path: Path) -> None:
    result = runner.invoke(app, ["phantom", "lesion", "-o", str(tmp_path), "--spacing", "3"])
    assert result.exit_code == 0, (result.output, result.exception)
    assert sitk.GetArrayFromImage(read_image(tmp_path / "labels.nrrd")).any()
