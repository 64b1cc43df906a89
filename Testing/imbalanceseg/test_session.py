"""A session: what it opens, what it writes, and what it leaves alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from imbalanceseg.dicom.series import write_dicom_series
from imbalanceseg.errors import ImbalanceSegError, InputError, OutputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.inference.segmentation import Segmentation
from imbalanceseg.io import read_image, write_image
from imbalanceseg.labels import AIRWAY_TREE
from imbalanceseg.models.bundle import Model
from imbalanceseg.progress import ProgressEvent
from imbalanceseg.session import Session, case_name, output_folder

GRID = Grid((20, 18, 12), (0.9, 0.9, 2.0), (-9.0, -8.0, 5.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
PRIVATE = ("PHANTOM", "Phantom^ImbalanceSeg")


@pytest.fixture
def scan() -> sitk.Image:
    rng = np.random.default_rng(5)
    return image_from_array(rng.integers(-1000, 400, GRID.size[::-1]).astype(np.int16), GRID)


@pytest.fixture
def series(scan: sitk.Image, tmp_path: Path) -> Path:
    write_dicom_series(scan, tmp_path / "series")
    return tmp_path / "series"


@pytest.fixture
def model(make_card) -> Model:
    return Model(Path("airway"), make_card(name="airway", weights={"sha256": "0" * 64}))


def _result(empty: bool = False, maps: bool = True) -> Segmentation:
    labels = np.zeros(GRID.size[::-1], np.uint8)
    if not empty:
        labels[3:9, 4:10, 5:12] = 1
    hardness = image_from_array(labels.astype(np.float32) * 0.5, GRID)
    hardness.SetMetaData("0010|0010", PRIVATE[1])
    return Segmentation(
        image_from_array(labels, GRID),
        (AIRWAY_TREE,),
        "airway",
        "0.1.0",
        hardness=hardness if maps else None,
        seconds={"network": 1.5},
        notes=("Nothing was found.",) if empty else (),
    )


def _segmented(source: Path, model: Model, result: Segmentation) -> Session:
    session = Session.open(source)
    session.model, session.result = model, result
    return session


def test_all_files_are_written_and_can_be_read(series: Path, model: Model, tmp_path: Path) -> None:
    events: list[ProgressEvent] = []
    session = _segmented(series, model, _result())
    files = session.write(tmp_path / "out", dicom_seg=True, progress=events.append)
    names = ["labels.nrrd", "hardness.nrrd", "segmentation.dcm", "overview.png", "report.json"]
    assert [file.name for file in files] == names
    assert sorted(os.listdir(tmp_path / "out")) == sorted(names)
    labels = read_image(files[0])
    assert labels.GetPixelID() == sitk.sitkUInt8
    assert Grid.of(labels).same_as(Grid.of(session.image))
    assert labels.GetMetaData("Segment0_Name") == "Airway tree"
    assert pydicom.dcmread(files[2]).Modality == "SEG"
    assert [e.done for e in events] == [0, 1, 2, 3, 4, 5]
    assert all(e.stage == "write" and e.total == 5 for e in events)


def test_the_report_states_the_figures(series: Path, model: Model, tmp_path: Path) -> None:
    session = _segmented(series, model, _result())
    files = session.write(tmp_path / "out")
    report = json.loads(files[-1].read_text())
    (segment,) = report["segments"]
    assert segment["voxels"] == 6 * 6 * 7
    assert segment["volume_ml"] == pytest.approx(252 * 0.9 * 0.9 * 2 / 1000)
    assert segment["type"]["value"] == "110726009"
    assert segment["bounding_box_lps_mm"]["low"] == pytest.approx([-4.95, -4.85, 10.0], abs=0.01)
    assert report["image"]["size"] == list(GRID.size)
    assert report["image"]["intensity_range"] == [
        float(sitk.GetArrayViewFromImage(session.image).min()),
        float(sitk.GetArrayViewFromImage(session.image).max()),
    ]
    assert report["model"]["sha256"] == "0" * 64
    assert report["seconds"]["network"] == 1.5
    assert report["total_seconds"] == pytest.approx(sum(report["seconds"].values()), abs=0.01)
    assert report["disclaimer"] == "Not for clinical use."
    assert report["files"] == [file.name for file in files]
    assert report["software"]["ImbalanceSeg"]


def test_nothing_written_says_who_the_patient_is(
    series: Path, model: Model, tmp_path: Path
) -> None:
    session = _segmented(series, model, _result())
    for file in session.write(tmp_path / "out"):
        content = file.read_bytes()
        assert not any(text.encode() in content for text in PRIVATE), file.name
        assert str(tmp_path).encode() not in content, file.name


def test_an_empty_result_is_written_without_dicom(
    series: Path, model: Model, tmp_path: Path
) -> None:
    files = _segmented(series, model, _result(empty=True)).write(tmp_path / "out", dicom_seg=True)
    assert [file.name for file in files][-2:] == ["overview.png", "report.json"]
    assert "segmentation.dcm" not in os.listdir(tmp_path / "out")
    report = json.loads(files[-1].read_text())
    assert report["segments"][0]["bounding_box_lps_mm"] is None
    assert report["notes"] == ["Nothing was found."]


def test_files_of_an_earlier_run_do_not_stay_beside_the_new_ones(
    series: Path, model: Model, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _segmented(series, model, _result()).write(out, dicom_seg=True)
    (out / "my notes.txt").write_text("kept")
    _segmented(series, model, _result(maps=False)).write(out)
    assert sorted(os.listdir(out)) == ["labels.nrrd", "my notes.txt", "overview.png", "report.json"]


def test_one_file_of_a_series_stands_for_it(series: Path, model: Model, tmp_path: Path) -> None:
    session = _segmented(sorted(series.iterdir())[4], model, _result())
    assert session.source == series
    files = session.write(tmp_path / "out", dicom_seg=True)
    assert "segmentation.dcm" in [file.name for file in files]


def test_dicom_seg_of_a_volume_file_is_refused_before_anything_is_written(
    scan: sitk.Image, model: Model, tmp_path: Path
) -> None:
    write_image(scan, tmp_path / "scan.nii.gz")
    session = _segmented(tmp_path / "scan.nii.gz", model, _result())
    with pytest.raises(InputError) as caught:
        session.write(tmp_path / "out", dicom_seg=True)
    assert caught.value.code == "dicom-seg-needs-series"
    assert not (tmp_path / "out").exists()


def test_cancelling_while_writing_leaves_whole_files_only(
    series: Path, model: Model, tmp_path: Path
) -> None:
    def cancel_third(event: ProgressEvent) -> None:
        if event.done == 2:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        _segmented(series, model, _result()).write(out, progress=cancel_third)
    assert sorted(os.listdir(out)) == ["hardness.nrrd", "labels.nrrd"]
    assert sitk.GetArrayFromImage(read_image(out / "hardness.nrrd")).max() == 0.5


def test_a_failing_picture_leaves_no_half_picture(
    series: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(image: sitk.Image, result: Segmentation, path: Path, **options: object) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("out of ink")

    monkeypatch.setattr("imbalanceseg.reporting.overview.write_overview", half)
    with pytest.raises(RuntimeError, match="ink"):
        _segmented(series, model, _result()).write(tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["hardness.nrrd", "labels.nrrd"]


def test_a_scan_that_cannot_be_used_is_not_opened(tmp_path: Path) -> None:
    image = sitk.Image(8, 8, 8, sitk.sitkInt16)
    write_image(image, tmp_path / "flat.nrrd")
    with pytest.raises(ImbalanceSegError) as caught:
        Session.open(tmp_path / "flat.nrrd")
    assert caught.value.code == "image-constant"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/case 7.nii.gz", "case 7"),
        ("b/CT.NRRD", "CT"),
        ("series/", "series"),
        ("IM0001.dcm", "IM0001"),
        ("/", "scan"),
        ("v1.2/lung.v2.mha", "lung.v2"),
    ],
)
def test_the_name_of_a_case(path: str, name: str) -> None:
    assert case_name(Path(path)) == name


def test_an_output_folder_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError) as caught, output_folder(tmp_path / "file" / "out"):
        pass
    assert caught.value.code == "output-not-writable"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_output_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError) as caught, output_folder(tmp_path):
            pass
    finally:
        tmp_path.chmod(0o700)
    assert caught.value.code == "output-not-writable"


def test_an_output_folder_made_for_nothing_goes_away_again(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), output_folder(tmp_path / "a" / "out"):
        raise ZeroDivisionError
    assert not (tmp_path / "a" / "out").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(ZeroDivisionError), output_folder(tmp_path / "mine"):
        raise ZeroDivisionError
    assert (tmp_path / "mine").exists()
