"""Whatever is wrong with the request: one sentence, a hint, exit 2, no trace, nothing written."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from imbalanceseg.dicom.series import write_dicom_series
from imbalanceseg.io import write_image

Run = Callable[..., subprocess.CompletedProcess[str]]


def _require_refusal(done: subprocess.CompletedProcess[str], code: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line not in ("read ...",)]
    assert len(lines) == 2, done.stderr
    assert re.match(rf"error\[{code}\]: \S.*\.$", lines[0]), done.stderr
    assert re.match(r"hint: \S.*\.$", lines[1]), done.stderr


def _missing(tmp_path: Path, scan: sitk.Image) -> Path:
    return tmp_path / "nowhere.nii.gz"


def _text(tmp_path: Path, scan: sitk.Image) -> Path:
    path = tmp_path / "notes.nii.gz"
    path.write_text("This is no image.\n")
    return path


def _two_dimensional(tmp_path: Path, scan: sitk.Image) -> Path:
    path = tmp_path / "flat.nii.gz"
    sitk.WriteImage(scan[:, :, 3], str(path))
    return path


def _four_dimensional(tmp_path: Path, scan: sitk.Image) -> Path:
    path = tmp_path / "four.nii.gz"
    sitk.WriteImage(sitk.JoinSeries([scan, scan]), str(path))
    return path


def _empty_folder(tmp_path: Path, scan: sitk.Image) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def _two_series(tmp_path: Path, scan: sitk.Image) -> Path:
    folder = tmp_path / "both"
    folder.mkdir()
    for number in (1, 2):
        for file in write_dicom_series(scan, tmp_path / f"s{number}", series_number=number):
            shutil.copy(file, folder / f"{number}-{file.name}")
    return folder


def _missing_slices(tmp_path: Path, scan: sitk.Image) -> Path:
    for file in write_dicom_series(scan, tmp_path / "gap")[9:14]:
        file.unlink()
    return tmp_path / "gap"


def _constant(tmp_path: Path, scan: sitk.Image) -> Path:
    write_image(scan * 0 - 1000, tmp_path / "constant.nrrd")
    return tmp_path / "constant.nrrd"


def _not_a_number(tmp_path: Path, scan: sitk.Image) -> Path:
    array = sitk.GetArrayFromImage(scan).astype(np.float32)
    array[5, 6, 7] = np.nan
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(scan)
    write_image(image, tmp_path / "nan.nrrd")
    return tmp_path / "nan.nrrd"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (_missing, "path-not-found"),
        (_text, "image-unreadable"),
        (_two_dimensional, "image-not-3d"),
        (_four_dimensional, "image-not-3d"),
        (_empty_folder, "no-cases"),
        (_two_series, r"series-ambiguous|several-series"),
        (_missing_slices, "dicom-missing-slice"),
        (_constant, "image-constant"),
        (_not_a_number, "image-not-finite"),
    ],
)
def test_scans_that_cannot_be_segmented(
    make: Callable[[Path, sitk.Image], Path],
    code: str,
    run_cli: Run,
    scan: sitk.Image,
    bundle: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    done = run_cli("segment", make(tmp_path, scan), "--model", bundle, "-o", out)
    _require_refusal(done, f"(?:{code})")
    assert not out.exists()


def test_two_series_are_named_and_one_can_be_picked(
    run_cli: Run, scan: sitk.Image, bundle: Path, tmp_path: Path
) -> None:
    folder = _two_series(tmp_path, scan)
    refused = run_cli("segment", folder, "--model", bundle, "-o", tmp_path / "out")
    uids = set(re.findall(r"\d+(?:\.\d+){4,}", refused.stderr))
    assert len(uids) == 2
    done = run_cli(
        "segment", folder, "-m", bundle, "-o", tmp_path / "out", "--series", uids.pop(),
        "--dicom-seg",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_unknown_model(run_cli: Run, scan_file: Path, tmp_path: Path) -> None:
    done = run_cli("segment", scan_file, "--model", "airwayy", "-o", tmp_path / "out")
    _require_refusal(done, "model-unknown")
    assert not (tmp_path / "out").exists()


def test_corrupted_weights(run_cli: Run, scan_file: Path, bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    weights = copy / "models" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    done = run_cli("segment", scan_file, "--model", copy, "-o", tmp_path / "out")
    _require_refusal(done, "model-damaged")
    assert not (tmp_path / "out").exists()


def test_output_folder_that_cannot_be_written(
    run_cli: Run, scan_file: Path, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    done = run_cli("segment", scan_file, "--model", bundle, "-o", tmp_path / "file" / "out")
    _require_refusal(done, "output-not-writable")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a read-only file system")
def test_output_folder_on_a_read_only_file_system(
    run_cli: Run, scan_file: Path, bundle: Path
) -> None:
    done = run_cli("segment", scan_file, "--model", bundle, "-o", "/proc/imbalanceseg-out")
    _require_refusal(done, "output-not-writable")


def test_dicom_seg_of_a_volume_file(
    run_cli: Run, scan_file: Path, bundle: Path, tmp_path: Path
) -> None:
    done = run_cli("segment", scan_file, "-m", bundle, "-o", tmp_path / "out", "--dicom-seg")
    _require_refusal(done, "dicom-seg-needs-series")
    assert not (tmp_path / "out").exists()


def test_unknown_series(run_cli: Run, series: Path, bundle: Path, tmp_path: Path) -> None:
    done = run_cli("segment", series, "-m", bundle, "-o", tmp_path / "out", "--series", "1.2.3")
    _require_refusal(done, "series-not-found")
    assert not (tmp_path / "out").exists()


def test_dicom_seg_of_a_real_series_without_identifiers_is_refused_before_the_work(
    run_cli: Run, data_folder: Path, bundle: Path, tmp_path: Path
) -> None:
    source = data_folder / "ct_dicom_20_slices" / "dicom"
    if not source.is_dir():
        pytest.skip("The 20-slice CT is not among the data.")
    done = run_cli("segment", source, "-m", bundle, "-o", tmp_path / "out", "--dicom-seg")
    _require_refusal(done, "dicom-tag-missing")
    assert not (tmp_path / "out").exists()


def test_dicom_seg_of_a_series_without_a_study_is_refused_before_the_work(
    run_cli: Run, series: Path, bundle: Path, tmp_path: Path
) -> None:
    anonymous = tmp_path / "anonymous"
    anonymous.mkdir()
    for file in sorted(series.iterdir()):
        slice_ = pydicom.dcmread(file)
        slice_.StudyInstanceUID = ""
        slice_.save_as(anonymous / file.name)
    done = run_cli("segment", anonymous, "-m", bundle, "-o", tmp_path / "out", "--dicom-seg")
    _require_refusal(done, "dicom-tag-missing")
    assert "StudyInstanceUID" in done.stderr
    assert not (tmp_path / "out").exists()
