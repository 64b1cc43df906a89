"""Measurements are those of known bodies, and other programs read them from the report."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from imbalanceseg.cli.main import main
from imbalanceseg.dicom.measurement_report import pieces_of, write_measurement_report
from imbalanceseg.dicom.seg import write_dicom_seg
from imbalanceseg.dicom.seg_reading import read_dicom_seg
from imbalanceseg.dicom.segments_file import read_segments_file
from imbalanceseg.dicom.series import write_dicom_series
from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import read_image
from imbalanceseg.labels import LESION

from .test_seg import tool, two_labels

GRID = Grid((40, 40, 20), (0.5, 0.5, 2.0), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


class TestPieces:
    def test_a_box_has_its_diagonal(self) -> None:
        mask = np.zeros(GRID.size[::-1], bool)
        mask[2:5, 10:14, 20:32] = True
        (piece,) = pieces_of(mask, GRID)
        assert piece.volume_mm3 == pytest.approx(3 * 4 * 12 * 0.5)
        assert piece.diameter_mm == pytest.approx(np.linalg.norm([6, 2, 6]))
        ends = np.array(piece.ends_mm)
        corners = np.array([[9.75, 4.75, 3.0], [15.75, 6.75, 9.0]])
        np.testing.assert_allclose(np.sort(ends, axis=0), corners)

    def test_a_voxel_has_its_own_diagonal(self) -> None:
        mask = np.zeros(GRID.size[::-1], bool)
        mask[7, 3, 3] = True
        (piece,) = pieces_of(mask, GRID)
        assert piece.diameter_mm == pytest.approx(np.linalg.norm([0.5, 0.5, 2]))

    def test_a_ball_has_about_its_diameter(self) -> None:
        grid = Grid((40, 40, 40), (0.5,) * 3, (0, 0, 0), GRID.direction)
        places = np.indices((40, 40, 40)) - 19.5
        (piece,) = pieces_of((places**2).sum(0) < 16**2, grid)
        assert piece.diameter_mm == pytest.approx(16, abs=0.9)
        assert piece.volume_mm3 == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.01)

    def test_the_largest_comes_first_and_corners_join(self) -> None:
        mask = np.zeros(GRID.size[::-1], bool)
        mask[0, 0, 0] = mask[1, 1, 1] = mask[9, 9, 9] = True
        assert [piece.volume_mm3 for piece in pieces_of(mask, GRID)] == [1.0, 0.5]

    def test_nothing_has_no_piece(self) -> None:
        assert pieces_of(np.zeros((3, 3, 3), bool), GRID) == []


@pytest.fixture
def lesions(tmp_path: Path) -> tuple[Path, Path]:
    """A series, and a segmentation of three lesions in it."""
    folder, seg = tmp_path / "series", tmp_path / "seg.dcm"
    write_dicom_series(image_from_array(np.zeros(GRID.size[::-1], np.int16), GRID), folder)
    values = np.zeros(GRID.size[::-1], np.uint8)
    values[2:5, 10:14, 20:32] = values[3, 30, 5] = values[15:18, 20:22, 20:22] = 1
    write_dicom_seg(image_from_array(values, Grid.of(read_image(folder))), folder, seg, [LESION])
    return folder, seg


def test_other_programs_read_the_figures(lesions: tuple[Path, Path], tmp_path: Path) -> None:
    folder, seg = lesions
    report = tmp_path / "report.dcm"
    write_measurement_report(seg, folder, report)
    told = subprocess.run(
        [tool("tid1500reader"), "--inputDICOM", report, "--outputMetadata", tmp_path / "out.json"],
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    groups = json.loads((tmp_path / "out.json").read_text())["Measurements"]
    figures = [
        {item["quantity"]["CodeMeaning"]: float(item["value"]) for item in g["measurementItems"]}
        for g in groups
    ]
    assert figures[0]["Volume"] == pytest.approx(72 + 0.5 + 6)
    assert figures[0]["Quantity"] == 3
    assert [g["Volume"] for g in figures[1:]] == pytest.approx([72, 6, 0.5])
    assert figures[1]["Maximum 3D Diameter of a Mesh"] == pytest.approx(np.sqrt(76), abs=1e-3)
    seg_uid = str(pydicom.dcmread(seg).SOPInstanceUID)
    assert {g["segmentationSOPInstanceUID"] for g in groups} == {seg_uid}
    assert {g["ReferencedSegment"] for g in groups} == {1}
    assert len({g["TrackingUniqueIdentifier"] for g in groups}) == 4


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_it_is_valid(lesions: tuple[Path, Path], tmp_path: Path, modality: str) -> None:
    folder, seg = lesions
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.Modality = modality
        header.save_as(path)
    write_measurement_report(seg, folder, tmp_path / "report.dcm")
    done = subprocess.run(
        [tool("dciodvfy"), tmp_path / "report.dcm"], capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert "Comprehensive3DSR" in said
    assert "Error" not in said, said


def test_the_command(lesions: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    folder, seg = lesions
    arguments = ["dicom-report", str(seg), str(folder), "-o", str(tmp_path / "r.dcm"), "--json"]
    assert main(arguments) == 0
    (segment,) = json.loads(capsys.readouterr().out)
    assert [piece["volume_mm3"] for piece in segment["pieces"]] == [72, 6, 0.5]


def test_another_study_is_refused(
    lesions: tuple[Path, Path], oblique: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        write_measurement_report(lesions[1], oblique, tmp_path / "report.dcm")
    assert caught.value.code == "segmentation-elsewhere"


class TestSegmentsFile:
    def test_those_of_dcmqi_are_read(self, data_folder: Path) -> None:
        folder = data_folder / "dicom_seg_dcmqi" / "examples_json"
        for path in sorted(folder.glob("seg-example*.json")):
            described = json.loads(path.read_text())["segmentAttributes"]
            assert len(read_segments_file(path)) == sum(map(len, described))
        liver, spine = read_segments_file(folder / "seg-example_liver_spine.json")
        assert (liver.label, liver.type.value, liver.color) == (1, "10200004", (220, 129, 101))
        assert spine.name == "Thoracic spine"

    @pytest.mark.parametrize(
        "text",
        ["", "[]", "{}", '{"segmentAttributes": []}', '{"segmentAttributes": [[{}]]}',
         '{"segmentAttributes": [[{"labelID": 0}]]}', '{"segmentAttributes": [[5]]}',
         '{"segmentAttributes": 5}'],
    )  # fmt: skip
    def test_what_is_none_is_told(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "segments.json"
        path.write_text(text)
        with pytest.raises(InputError) as caught:
            read_segments_file(path)
        assert caught.value.code == "segments-file"

    def test_the_command_takes_them(self, oblique: Path, tmp_path: Path) -> None:
        item = {
            "labelID": 1,
            "SegmentLabel": "Mine",
            "SegmentedPropertyCategoryCodeSequence": {
                "CodeValue": "85756007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Tissue"},
            "SegmentedPropertyTypeCodeSequence": {
                "CodeValue": "10200004", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Liver"},
        }  # fmt: skip
        items = [item, item | {"labelID": 7, "SegmentLabel": "Yours"}]
        (tmp_path / "s.json").write_text(json.dumps({"segmentAttributes": [items]}))
        sitk.WriteImage(two_labels(oblique), tmp_path / "labels.nrrd")
        arguments = [
            "dicom-seg", str(tmp_path / "labels.nrrd"), str(oblique), "-o", str(tmp_path / "s.dcm"),
            "--segments", str(tmp_path / "s.json"), "--made-by", "manual", "--kind", "labelmap",
        ]  # fmt: skip
        assert main(arguments) == 0
        found = read_dicom_seg(tmp_path / "s.dcm").segments
        assert [(s.info.name, s.algorithm) for s in found] == [
            ("Mine", "MANUAL"),
            ("Yours", "MANUAL"),
        ]
        assert main(["dicom-seg", str(oblique), "-o", str(tmp_path / "t.dcm")]) == 2
