"""The main job through the command line, with a real model of random weights."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from imbalanceseg.cli.segment import parse_maps
from imbalanceseg.geometry import Grid
from imbalanceseg.io import read_image

Run = Callable[..., subprocess.CompletedProcess[str]]
ALL = ["hardness.nrrd", "labels.nrrd", "overview.png", "report.json", "segmentation.dcm"]


def test_from_dicom_to_dicom(
    run_cli: Run, series: Path, scan: sitk.Image, bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run_cli("segment", series, "--model", bundle, "-o", out, "--dicom-seg")
    assert (done.returncode, done.stderr.count("error")) == (0, 0), done.stderr
    assert sorted(os.listdir(out)) == ALL
    labels = read_image(out / "labels.nrrd")
    assert Grid.of(labels).same_as(Grid.of(scan))
    voxels = int(np.count_nonzero(sitk.GetArrayViewFromImage(labels) == 1))
    assert voxels > 0
    assert f"{voxels:,}" in done.stdout
    for name in ALL:
        assert str(out / name) in done.stdout
    assert "Not for clinical use" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["segments"][0]["voxels"] == voxels
    assert report["case"] == "series"
    assert report["device"] == "cpu"
    assert {"read", "write"} <= set(report["seconds"])
    assert report["peak_memory_mib"] > 50
    seg = pydicom.dcmread(out / "segmentation.dcm")
    assert seg.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    assert "test-airway" in seg.SegmentSequence[0].SegmentAlgorithmName


def test_progress_as_json_lines(
    run_cli: Run, scan_file: Path, bundle: Path, tmp_path: Path
) -> None:
    done = run_cli(
        "segment", scan_file, "-m", bundle, "-o", tmp_path / "out", "--progress", "json",
        "--maps", "attention", "--maps", "hardness", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert all({"stage", "done", "total"} <= event.keys() for event in events)
    stages = list(dict.fromkeys(event["stage"] for event in events))
    assert stages[0] == "read"
    assert "tiles" in stages
    assert stages[-2:] == ["write", "finished"]
    tiles = [e for e in events if e["stage"] == "tiles"]
    assert [e["done"] for e in tiles] == list(range(tiles[-1]["total"] + 1))
    last = events[-1]
    names = [Path(file).name for file in last["files"]]
    assert names == [
        "labels.nrrd",
        "hardness.nrrd",
        "attention.nrrd",
        "overview.png",
        "report.json",
    ]
    assert last["segments"][0]["voxels"] > 0
    assert done.stderr == ""


def test_no_progress_prints_the_summary_only(
    run_cli: Run, scan_file: Path, bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run_cli(
        "segment", scan_file, "-m", bundle, "-o", out, "--progress", "none", "--maps", "none"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir(out)) == ["labels.nrrd", "overview.png", "report.json"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo terminals")
def test_a_terminal_gets_a_bar_with_time_left(
    scan_file: Path, bundle: Path, tmp_path: Path, process_environment: dict[str, str]
) -> None:
    ours, theirs = pty.openpty()
    arguments = ["segment", str(scan_file), "-m", str(bundle), "-o", str(tmp_path / "out")]
    child = subprocess.Popen(
        [sys.executable, "-m", "imbalanceseg", *arguments],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**process_environment, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:
            break
    os.close(ours)
    assert child.wait(timeout=120) == 0
    for word in (b"read", b"tiles", b"write", b"left", b"1/1"):
        assert word in shown, word
    assert b"\x1b" in shown


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_work_and_leaves_no_half_file(
    number: signal.Signals,
    scan_file: Path,
    slow_bundle: Path,
    tmp_path: Path,
    signalled: Callable[..., tuple[int, str]],
) -> None:
    out = tmp_path / "out"
    code, errors = signalled(number, "segment", scan_file, "-m", slow_bundle, "-o", out)
    assert code == 130, errors
    assert errors == "error[cancelled]: Stopped; nothing half-written is left behind.\n"
    assert not out.exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["hardness,attention"], ("hardness", "attention")),
        (["hardness", "attention", "hardness"], ("hardness", "attention")),
        ([" attention , "], ("attention",)),
        (["none"], ()),
        ([""], ()),
    ],
)
def test_maps_are_given_with_commas_or_one_by_one(
    given: list[str], expected: tuple[str, ...]
) -> None:
    assert parse_maps(given) == expected
