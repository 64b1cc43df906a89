"""``imbalanceseg finetune``: a scan and painted slices become labels and a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.annotation.files import save_annotation
from imbalanceseg.cli.main import main
from imbalanceseg.models.bundle import load_model
from imbalanceseg.session import Session


@pytest.fixture(scope="module")
def painted(tmp_path_factory) -> Path:
    """A folder with a scan and an annotation of it."""
    folder = tmp_path_factory.mktemp("painted")
    places = np.stack(np.meshgrid(*(np.arange(24),) * 3, indexing="ij"), -1)
    ball = ((places - 12) ** 2).sum(-1) < 40
    noise = np.random.default_rng(0).normal(size=ball.shape)
    scan = sitk.GetImageFromArray((noise + 5.0 * ball).astype(np.float32))
    sitk.WriteImage(scan, folder / "scan.nii.gz")
    annotation = Annotation.of(scan)
    for index in (9, 12, 15):
        annotation.paint_slice(2, index, ball[index].astype(np.uint8))
    save_annotation(annotation, folder / "painted.nrrd")
    save_annotation(Annotation.of(scan), folder / "empty.nrrd")
    return folder


def run(painted: Path, output: Path, *more: str, annotation: str = "painted.nrrd") -> int:
    return main(
        [
            "finetune", str(painted / "scan.nii.gz"), str(painted / annotation),
            "-o", str(output), "--device", "cpu", "--seconds", "300",
            "--iterations", "20", *more,
        ]
    )  # fmt: skip


def test_it_writes_the_result_and_the_model(painted, tmp_path, capsys) -> None:
    assert run(painted, tmp_path / "out", "--model", "none", "--progress", "json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any(e["stage"] == "finetune" and "loss" in e["metrics"] for e in events)
    labels = sitk.ReadImage(tmp_path / "out" / "labels.nrrd")
    assert 900 < sitk.GetArrayFromImage(labels).sum() < 1200
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["model"]["name"] == "from-scratch-adapted"
    child = load_model(tmp_path / "out" / "model")
    child.verify()
    assert main(
        [
            "segment", str(painted / "scan.nii.gz"), "--model", str(tmp_path / "out" / "model"),
            "-o", str(tmp_path / "again"), "--device", "cpu", "--maps", "none",
        ]
    ) == 0  # fmt: skip
    again = sitk.ReadImage(tmp_path / "again" / "labels.nrrd")
    agreeing = sitk.GetArrayFromImage(again) == sitk.GetArrayFromImage(labels)
    assert agreeing.mean() > 0.995


@pytest.mark.parametrize(
    ("annotation", "model", "code"),
    [("empty.nrrd", "none", "annotation-empty"), ("painted.nrrd", "nosuch", "model-unknown")],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(
    painted, tmp_path, capsys, annotation, model, code
) -> None:
    assert run(painted, tmp_path / "out", "--model", model, annotation=annotation) == 2
    assert f"error[{code}]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_was_stopped_goes_on(painted, tmp_path, capsys, monkeypatch) -> None:
    arguments = ("--model", "none", "--iterations", "20", "--memory-gb", "2")
    output = tmp_path / "out"

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Session, "write", stop)
        assert run(painted, output, *arguments) != 0
    assert "--resume" in capsys.readouterr().err
    assert (output / "checkpoint.safetensors").is_file()
    assert run(painted, output, *arguments) == 2
    assert "error[checkpoint-exists]" in capsys.readouterr().err
    assert run(painted, output, *arguments, "--resume", "--seed", "3") == 2
    assert "error[checkpoint-other]" in capsys.readouterr().err
    assert run(painted, output, *arguments, "--resume", "--progress", "json") == 0
    # All rounds were done: nothing was left to teach.
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert not any(e["stage"] == "finetune" for e in events)
    assert not (output / "checkpoint.safetensors").exists()
    assert (output / "labels.nrrd").is_file()


def test_nothing_to_go_on_with(painted, tmp_path, capsys) -> None:
    assert run(painted, tmp_path / "out", "--model", "none", "--resume") == 2
    assert "error[checkpoint-missing]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
