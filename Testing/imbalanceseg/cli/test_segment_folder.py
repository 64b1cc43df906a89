"""A folder of cases through the command line: table, exit codes, progress, stopping."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import SimpleITK as sitk
from rich.progress import Progress

from imbalanceseg.cli.console import _Bars
from imbalanceseg.dicom.series import write_dicom_series
from imbalanceseg.io import write_image
from imbalanceseg.progress import ProgressEvent

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def two(scan: sitk.Image, tmp_path: Path) -> Path:
    """A folder that holds an image file and a DICOM series."""
    folder = tmp_path / "two"
    folder.mkdir()
    write_image(scan, folder / "file.nrrd")
    write_dicom_series(scan, folder / "series")
    return folder


def _table(output: Path) -> dict[str, dict[str, str]]:
    with open(output / "cases.csv", newline="", encoding="utf-8") as stream:
        return {row["case"]: row for row in csv.DictReader(stream)}


@pytest.mark.slow
def test_a_bad_case_is_told_and_the_next_run_does_only_that(
    run_cli: Run, two: Path, scan: sitk.Image, bundle: Path, tmp_path: Path
) -> None:
    write_image(scan * 0, two / "constant.nii.gz")
    arguments = ("segment", two, "--model", bundle, "-o", two / "out", "--maps", "none")
    first = run_cli(*arguments)
    assert first.returncode == 1, first.stderr
    assert "case 1 of 3: constant\nread ...\ncase 2 of 3: file\nread ...\n" in first.stderr
    assert "error" not in first.stderr
    lines = first.stdout.splitlines()
    assert lines[0].split()[:3] == ["case", "status", "time"]
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["constant", "failed"],
        ["file", "done"],
        ["series", "done"],
    ]
    assert "image-constant: Every voxel of the image has the value 0." in lines[1]
    assert " ml" in lines[2]
    assert "2 done, 1 failed, 0 skipped" in first.stdout
    assert str(two / "out" / "cases.csv") in first.stdout
    assert "Not for clinical use" in first.stdout
    for case in ("file", "series"):
        report = json.loads((two / "out" / case / "report.json").read_text())
        row = _table(two / "out")[case]
        assert float(row["volume_ml[Airway tree]"]) == report["segments"][0]["volume_ml"]

    write_image(scan, two / "constant.nii.gz")
    second = run_cli(*arguments, "--progress", "json")
    assert (second.returncode, second.stderr) == (0, "")
    events = [json.loads(line) for line in second.stdout.splitlines()]
    cases = [(e["done"], e["total"], e["message"]) for e in events if e["stage"] == "cases"]
    assert cases == [(0, 3, "constant"), (3, 3, "")]
    assert {"find", "read", "tiles", "write"} <= {e["stage"] for e in events}
    last = events[-1]
    assert last["stage"] == "finished"
    assert last["counts"] == {"done": 1, "failed": 0, "skipped": 2}
    assert [row["case"] for row in last["cases"]] == ["constant", "file", "series"]

    third = run_cli(*arguments, "--progress", "none")
    assert (third.returncode, third.stderr) == (0, "")
    assert "0 done, 0 failed, 3 skipped" in third.stdout


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_leaves_the_table_right(
    number: signal.Signals,
    two: Path,
    slow_bundle: Path,
    tmp_path: Path,
    signalled: Callable[..., tuple[int, str]],
) -> None:
    out = tmp_path / "out"
    code, errors = signalled(number, "segment", two, "-m", slow_bundle, "-o", out)
    assert code == (130 if number == signal.SIGINT else -number), errors
    assert [(row["case"], row["status"]) for row in _table(out).values()] == [("file", "started")]
    left = ["cases.csv"] if number == signal.SIGINT else ["cases.csv", "file"]
    assert sorted(os.listdir(out)) == left
    if (out / "file").exists():
        assert os.listdir(out / "file") == []


def test_images_beside_the_slices_of_a_series_are_told_of(
    run_cli: Run, two: Path, scan: sitk.Image, bundle: Path, tmp_path: Path
) -> None:
    write_image(scan, two / "series" / "mask.nrrd")
    out = tmp_path / "out"
    done = run_cli("segment", two / "series", "-m", bundle, "-o", out, "--maps", "none")
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(out)) == ["labels.nrrd", "overview.png", "report.json"]
    assert "note: the DICOM series was segmented, not the image files beside it" in done.stdout


def test_the_output_must_not_be_the_folder_of_the_images(
    run_cli: Run, two: Path, bundle: Path
) -> None:
    done = run_cli("segment", two, "-m", bundle, "-o", two)
    assert done.returncode == 2
    assert done.stderr.startswith("error[output-is-input]: ")
    assert sorted(os.listdir(two)) == ["file.nrrd", "series"]


def test_bars_of_a_case_go_when_the_next_begins() -> None:
    progress = Progress(disable=True)
    tell = _Bars(progress)
    for stage, done, total in (
        ("find", 0, 1),
        ("cases", 0, 2),
        ("read", 0, 1),
        ("tiles", 3, 4),
        ("cases", 1, 2),
        ("read", 0, 1),
    ):
        tell(ProgressEvent(stage, done, total, stage))
    shown = [(task.description, task.completed, task.total) for task in progress.tasks]
    assert shown == [("cases", 1, 2), ("read", 0, 1)]
