"""``imbalanceseg suggest`` reads what ``imbalanceseg segment`` wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.annotation.files import save_annotation
from imbalanceseg.cli.main import app, main
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import write_image

runner = CliRunner()


@pytest.fixture
def folder(scan: sitk.Image, tmp_path: Path) -> Path:
    """What was found in the scan: its ball, hard on the left side of it."""
    labels = sitk.GetArrayFromImage(scan) > 0
    hardness = 0.6 * labels
    hardness[:, :, :24] = 0
    for name, array in (("labels", labels), ("hardness", hardness.astype(np.float32))):
        write_image(image_from_array(array, Grid.of(scan)), tmp_path / f"{name}.nrrd")
    return tmp_path


def test_table(scan_file: Path, folder: Path) -> None:
    done = runner.invoke(app, ["suggest", str(scan_file), "--segmentation", str(folder)])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].split() == ["plane", "axis", "index", "score", "reason"]
    assert lines[1].split()[0] in ("axial", "coronal", "sagittal")
    assert "1.00" in lines[1]
    assert lines[1].endswith("nothing painted yet")


def test_json_and_annotation(scan: sitk.Image, scan_file: Path, folder: Path) -> None:
    arguments = ["suggest", str(scan_file), "--segmentation", str(folder), "--json"]
    few = json.loads(runner.invoke(app, [*arguments, "-n", "1"]).output)
    assert few["worth_painting"] is True
    (first,) = few["suggestions"]
    assert set(first) == {"axis", "index", "score", "reason", "plane"}
    assert first["plane"] == ("sagittal", "coronal", "axial")[first["axis"]]
    annotation = Annotation.of(scan)
    for index in range(24):
        annotation.confirm(2, index)
    save_annotation(annotation, folder / "painted.seg.nrrd")
    painted = ["--annotation", str(folder / "painted.seg.nrrd")]
    assert json.loads(runner.invoke(app, [*arguments, *painted]).output) == {
        "worth_painting": False,
        "suggestions": [],
    }
    text = runner.invoke(app, [*arguments[:-1], *painted]).output
    assert text.startswith("No further slice is worth painting")


def test_labels_alone_will_do(scan_file: Path, folder: Path) -> None:
    (folder / "hardness.nrrd").unlink()
    done = runner.invoke(app, ["suggest", str(scan_file), "--segmentation", str(folder)])
    assert "outline" in done.output


def test_refusals(
    scan_file: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(*arguments: str) -> str:
        assert main(["suggest", str(scan_file), *arguments]) == 2
        return capsys.readouterr().err

    (tmp_path / "empty").mkdir()
    assert "error[segmentation-missing]" in refusal("--segmentation", str(tmp_path / "empty"))
    assert "error[suggestions-none]" in refusal("--segmentation", str(folder), "-n", "0")
    write_image(sitk.Image([4, 4, 4], sitk.sitkUInt8), tmp_path / "other.nrrd")
    other = ("--annotation", str(tmp_path / "other.nrrd"))
    assert "error[grid-mismatch]" in refusal("--segmentation", str(folder), *other)
