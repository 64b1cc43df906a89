"""The smaller commands: models, evaluate, dicom-seg, doctor, phantom, demo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from imbalanceseg.cli import demo as demo_module
from imbalanceseg.cli.console import print_json
from imbalanceseg.cli.main import app
from imbalanceseg.errors import ModelError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import read_image, write_image
from imbalanceseg.reporting.checks import Check, State

Run = Callable[..., subprocess.CompletedProcess[str]]
runner = CliRunner()


@pytest.fixture
def shipped(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test model as if it came with the software."""
    monkeypatch.setattr("imbalanceseg.models.bundle._SHIPPED", bundle.parent)
    return bundle


def test_models_list(shipped: Path) -> None:
    listed = runner.invoke(app, ["models", "list"])
    assert listed.exit_code == 0
    assert listed.output.splitlines()[1].split() == ["test-airway", "0.1.0", "Airway", "tree"]
    as_json = json.loads(runner.invoke(app, ["models", "list", "--json"]).output)
    assert as_json[0]["segments"] == [{"label": 1, "name": "Airway tree"}]


def test_models_show(shipped: Path) -> None:
    shown = runner.invoke(app, ["models", "show", "test-airway"]).output
    assert "It segments nothing of use." in shown
    assert "license: Apache-2.0" in shown
    card = json.loads(runner.invoke(app, ["models", "show", "test-airway", "--json"]).output)[
        "card"
    ]
    assert card["metrics"] == {"phantom": {"dice": 0.5}}


def test_models_verify_names_the_damaged_one(shipped: Path, tmp_path: Path) -> None:
    assert runner.invoke(app, ["models", "verify"]).exit_code == 0
    broken = tmp_path / "broken"
    shutil.copytree(shipped, broken)
    with open(broken / "models" / "model.safetensors", "ab") as stream:
        stream.write(b"x")
    result = runner.invoke(app, ["models", "verify", "test-airway", str(broken)])
    assert isinstance(result.exception, ModelError)
    assert result.output.splitlines()[0].split() == ["test-airway", "ok"]
    assert result.output.splitlines()[1].split()[-1] == "model-damaged"


def test_models_export_copies_whole_and_overwrites_nothing(
    run_cli: Run, bundle: Path, tmp_path: Path
) -> None:
    done = run_cli("models", "export", bundle, "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    copy = tmp_path / "test-airway"
    assert done.stdout.strip() == str(copy)
    for file in (f for f in bundle.rglob("*") if f.is_file()):
        assert (copy / file.relative_to(bundle)).read_bytes() == file.read_bytes()
    again = run_cli("models", "export", bundle, "-o", tmp_path)
    assert again.returncode == 2
    assert again.stderr.startswith("error[output-exists]: ")
    assert os.listdir(tmp_path) == ["test-airway"]


def _ball_labels(scan: sitk.Image) -> sitk.Image:
    return sitk.Cast(scan > -200, sitk.sitkUInt8)


def test_dicom_seg_of_labels(
    run_cli: Run, scan: sitk.Image, series: Path, bundle: Path, tmp_path: Path
) -> None:
    labels = _ball_labels(scan)
    write_image(labels, tmp_path / "labels.nrrd")
    target = tmp_path / "seg.dcm"
    done = run_cli("dicom-seg", tmp_path / "labels.nrrd", series, "-o", target, "-m", bundle)
    assert done.returncode == 0, done.stderr
    frames = pydicom.dcmread(target).pixel_array
    assert frames.sum() == np.count_nonzero(sitk.GetArrayViewFromImage(labels))


def test_dicom_seg_on_another_grid_is_refused(
    run_cli: Run, scan: sitk.Image, series: Path, bundle: Path, tmp_path: Path
) -> None:
    write_image(_ball_labels(scan)[:-1], tmp_path / "labels.nrrd")
    target = tmp_path / "seg.dcm"
    done = run_cli("dicom-seg", tmp_path / "labels.nrrd", series, "-o", target, "-m", bundle)
    assert done.returncode == 2
    assert done.stderr.startswith("error[grid-mismatch]: ")
    assert not target.exists()


def test_evaluate_identical_labels(scan: sitk.Image, tmp_path: Path) -> None:
    path = tmp_path / "labels.nrrd"
    write_image(_ball_labels(scan), path)
    result = runner.invoke(app, ["evaluate", str(path), str(path), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["dice"] == 1.0
    assert "dice" in runner.invoke(app, ["evaluate", str(path), str(path)]).output
    chosen = ["evaluate", str(path), str(path), "--metrics", "iou,recall", "--json"]
    assert json.loads(runner.invoke(app, chosen).output) == {"iou": 1.0, "recall": 1.0}


def test_evaluate_folders(scan: sitk.Image, tmp_path: Path) -> None:
    for side in ("predictions", "references"):
        (tmp_path / side).mkdir()
        for case in ("first", "second"):
            write_image(_ball_labels(scan), tmp_path / side / f"{case}.nrrd")
    folders = [str(tmp_path / "predictions"), str(tmp_path / "references")]
    command = ["evaluate", *folders, "--metrics", "dice,surface_dice"]
    table = runner.invoke(app, command)
    assert table.exit_code == 0, table.output
    rows = [line.split() for line in table.stdout.splitlines()]
    assert rows[0] == ["case", "dice", "surface_dice"]
    assert [row[0] for row in rows[1:]] == ["first", "second", "mean", "median"]
    figures = json.loads(runner.invoke(app, [*command, "--json"]).stdout)
    assert figures["cases"].keys() == {"first", "second"}
    assert figures["mean"] == figures["median"] == {"dice": 1.0, "surface_dice": 1.0}


def test_evaluate_on_another_grid(run_cli: Run, scan: sitk.Image, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.nrrd", tmp_path / "part.nrrd"
    write_image(_ball_labels(scan), whole)
    write_image(_ball_labels(scan)[:, :, 1:], part)
    refused = run_cli("evaluate", part, whole)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error[grid-mismatch]: ")
    assert "--resample" in refused.stderr
    done = run_cli("evaluate", part, whole, "--resample", "--metrics", "dice", "--json")
    assert done.returncode == 0, done.stderr
    assert 0.5 < json.loads(done.stdout)["dice"] <= 1.0


def test_evaluate_maps(scan: sitk.Image, tmp_path: Path) -> None:
    labels, probability = tmp_path / "labels.nrrd", tmp_path / "probability.nrrd"
    write_image(_ball_labels(scan), labels)
    write_image(sitk.Cast(_ball_labels(scan), sitk.sitkFloat32), probability)
    command = ["evaluate", str(labels), str(labels), "--probability", str(probability), "--json"]
    figures = json.loads(runner.invoke(app, [*command, "--hardness", str(probability)]).stdout)
    assert figures["calibration_error"] == figures["brier"] == 0.0
    # nothing is wrong, so there is nothing to rank
    assert figures["hardness_auroc"] is None


def test_doctor_says_whether_it_is_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    good = [Check("Python", "3.11"), Check("free disk", "0.5 GiB", State.WARNING, "Free some.")]
    monkeypatch.setattr("imbalanceseg.reporting.checks.run_checks", lambda folder: good)
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert "usable" in result.output
    assert "Free some." in result.output
    bad = [*good, Check("edt", "not installed", State.MISSING, "pip install edt")]
    monkeypatch.setattr("imbalanceseg.reporting.checks.run_checks", lambda folder: bad)
    result = runner.invoke(app, ["doctor", "--json"])
    assert result.exit_code == 1
    told = json.loads(result.output)
    assert told["usable"] is False
    assert told["checks"][-1]["fix"] == "pip install edt"


def test_doctor_for_real(run_cli: Run) -> None:
    done = run_cli("doctor", "--json")
    told = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    for name in ("ImbalanceSeg", "Python", "torch", "SimpleITK", "highdicom", "CPU", "free disk"):
        assert told[name]["state"] == "ok", told[name]
    assert done.returncode == (0 if all(c["state"] != "missing" for c in told.values()) else 1)


def _phantom(
    seed: int, spacing_mm: float = 0.8, scale: float = 1.0, difficulty: float = 0.5
) -> tuple[sitk.Image, sitk.Image]:
    rng = np.random.default_rng(seed)
    array = rng.normal(-800, 50, (20, 40, 40)).astype(np.int16)
    labels = np.zeros(array.shape, np.uint8)
    labels[4:16, 15:25, 15:25] = 1
    grid = Grid((40, 40, 20), (1.5, 1.5, 3.0), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    return image_from_array(array, grid), image_from_array(labels, grid)


def test_phantom_writes_scan_and_truth(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("imbalanceseg.synthesis.airway.chest_phantom", _phantom)
    result = runner.invoke(
        app, ["phantom", "airway", "-o", str(tmp_path), "--seed", "4", "--dicom"]
    )
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir(tmp_path)) == ["image.nrrd", "labels.nrrd", "series"]
    image = sitk.GetArrayFromImage(read_image(tmp_path / "image.nrrd"))
    assert np.array_equal(image, sitk.GetArrayFromImage(_phantom(4)[0]))
    assert np.array_equal(image, sitk.GetArrayFromImage(read_image(tmp_path / "series")))
    assert read_image(tmp_path / "labels.nrrd").GetMetaData("Segment0_Name") == "Airway tree"


def test_demo_goes_the_way_of_a_real_scan_and_can_be_repeated(
    shipped: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("imbalanceseg.synthesis.airway.chest_phantom", _phantom)
    monkeypatch.setattr(demo_module, "_MODEL", str(shipped))
    for _ in range(2):
        result = runner.invoke(app, ["demo", "-o", str(tmp_path), "--device", "cpu"])
        assert result.exit_code == 0, (result.output, result.exception)
    assert "This scan is a phantom. Dice with its exact airway tree: " in result.output
    assert sorted(os.listdir(tmp_path)) == [
        "hardness.nrrd", "labels.nrrd", "overview.png", "report.json", "segmentation.dcm", "series"
    ]  # fmt: skip
    for name in os.listdir(tmp_path):
        assert str(tmp_path / name) in result.output


def test_demo_leaves_a_series_that_is_not_its_own(
    shipped: Path, series: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("imbalanceseg.synthesis.airway.chest_phantom", _phantom)
    shutil.copytree(series, tmp_path / "series")
    before = sorted(os.listdir(tmp_path / "series"))
    result = runner.invoke(app, ["demo", "-o", str(tmp_path)])
    assert getattr(result.exception, "code", None) == "output-folder-not-empty"
    assert sorted(os.listdir(tmp_path / "series")) == before


def test_json_holds_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": float("nan"), "b": np.float32(0.5), "c": [float("inf"), 2], "d": "text"})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": 0.5, "c": [None, 2], "d": "text"}
