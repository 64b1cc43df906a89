"""A DICOM Segmentation refers to its series, is valid, and other programs read the same voxels."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from imbalanceseg.dicom.seg import write_dicom_seg
from imbalanceseg.dicom.seg_reading import on_scan, read_dicom_seg
from imbalanceseg.dicom.series import write_dicom_series
from imbalanceseg.errors import GeometryError, ImbalanceSegError, InputError, OutputError
from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.io import read_image, series_files
from imbalanceseg.labels import AIRWAY_TREE, LESION, TUMOR, CodedConcept, SegmentInfo

from .conftest import REAL_SERIES

NODULE = SegmentInfo(
    label=7,
    name="Nodule",
    category=TUMOR.category,
    type=CodedConcept("27925004", "Nodule"),
    color=(10, 200, 30),
    region=CodedConcept("39607008", "Lung"),
)
SEGMENTS = (AIRWAY_TREE, NODULE)


def two_labels(folder: Path) -> sitk.Image:
    """Label 1 on slices 2-4, label 7 on slices 4-6; nothing on the others."""
    grid = Grid.of(read_image(folder))
    values = np.zeros(grid.size[::-1], np.uint8)
    values[2:5, 3:9, 2:11] = 1
    values[4:7, 12:15, 9:20] = 7
    return image_from_array(values, grid)


def blob(folder: Path) -> sitk.Image:
    """An ellipsoid off the middle of a scan that lacks an octant, so that a flip would be seen."""
    grid = Grid.of(read_image(folder))
    size = np.array(grid.size[::-1])
    centre, reach = size * (0.45, 0.55, 0.4), np.maximum(size / (5, 8, 10), 1)
    z, y, x = (np.arange(n) - c for n, c in zip(size, centre, strict=True))
    z, y, x = np.meshgrid(z, y, x, indexing="ij", sparse=True)
    inside = (z / reach[0]) ** 2 + (y / reach[1]) ** 2 + (x / reach[2]) ** 2 < 1
    inside &= ~((z > 0) & (y > 0) & (x > 0))
    return image_from_array(inside.astype(np.uint8), grid)


def tool(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed.")
    return found


def assert_valid(path: Path) -> None:
    done = subprocess.run([tool("dciodvfy"), str(path)], capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert "Segmentation" in said
    assert "Error" not in said, said


def read_with_dcmqi(path: Path, folder: Path, grid: Grid) -> tuple[list[np.ndarray], list[dict]]:
    """Every segment as dcmqi reads it, on ``grid``, and what dcmqi says about it."""
    folder.mkdir()
    program = tool("segimage2itkimage")
    subprocess.run(
        [program, "--inputDICOM", str(path), "--outputDirectory", str(folder), "-t", "nrrd"],
        check=True,
        capture_output=True,
    )
    attributes = json.loads((folder / "meta.json").read_text())["segmentAttributes"]
    images = [sitk.ReadImage(str(p)) for p in sorted(folder.glob("*.nrrd"))]
    return (
        [sitk.GetArrayFromImage(resample(i, grid, "nearest")) for i in images],
        [item for group in attributes for item in group],
    )


def read_with_highdicom(path: Path, files: list[Path]) -> np.ndarray:
    segmentation = hd.seg.segread(str(path))
    uids = [pydicom.dcmread(f, stop_before_pixels=True).SOPInstanceUID for f in files]
    return segmentation.get_pixels_by_source_instance(
        uids, assert_missing_frames_are_empty=True, ignore_spatial_locations=False
    )


def refusal(kind: type[ImbalanceSegError], call: Callable[[], object]) -> ImbalanceSegError:
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in caught.value.message
    assert caught.value.message.endswith(".")
    assert caught.value.hint
    return caught.value


def test_attributes_say_what_made_which_segment(oblique: Path, tmp_path: Path) -> None:
    path = tmp_path / "seg.dcm"
    write_dicom_seg(
        two_labels(oblique),
        oblique,
        path,
        SEGMENTS,
        algorithm_name="airway",
        algorithm_version="3.1",
    )
    seg = pydicom.dcmread(path)
    source = [pydicom.dcmread(f, stop_before_pixels=True) for f in series_files(oblique)]
    assert seg.SegmentationType == "BINARY"
    assert seg.Modality == "SEG"
    assert seg.Manufacturer == "ImbalanceSeg"
    assert seg.SeriesDescription == "ImbalanceSeg airway"
    assert any("3.1" in v for v in seg.SoftwareVersions)
    assert seg.StudyInstanceUID == source[0].StudyInstanceUID
    assert seg.FrameOfReferenceUID == source[0].FrameOfReferenceUID
    assert seg.SeriesInstanceUID != source[0].SeriesInstanceUID
    assert seg.NumberOfFrames == 6
    quoted = seg.ReferencedSeriesSequence[0]
    assert quoted.SeriesInstanceUID == source[0].SeriesInstanceUID
    assert {i.ReferencedSOPInstanceUID for i in quoted.ReferencedInstanceSequence} == {
        h.SOPInstanceUID for h in source
    }
    for number, (item, expected) in enumerate(zip(seg.SegmentSequence, SEGMENTS, strict=True), 1):
        assert item.SegmentNumber == number
        assert item.SegmentLabel == expected.name
        assert item.SegmentAlgorithmType == "AUTOMATIC"
        assert item.SegmentAlgorithmName == "airway"
        made_by = item.SegmentationAlgorithmIdentificationSequence[0]
        assert (made_by.AlgorithmName, made_by.AlgorithmVersion) == ("airway", "3.1")
        assert item.TrackingID == expected.name
        assert item.TrackingUID
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        assert (kind.CodeValue, kind.CodingSchemeDesignator) == (expected.type.value, "SCT")
        category = item.SegmentedPropertyCategoryCodeSequence[0]
        assert category.CodeMeaning == expected.category.meaning
        shown = hd.color.CIELabColor.from_dicom_value(item.RecommendedDisplayCIELabValue)
        np.testing.assert_allclose(shown.to_rgb(), expected.color, atol=2)
    assert "AnatomicRegionSequence" not in seg.SegmentSequence[0]
    assert seg.SegmentSequence[1].AnatomicRegionSequence[0].CodeValue == "39607008"


def test_voxels_lie_on_their_slices(oblique: Path, tmp_path: Path) -> None:
    labels = two_labels(oblique)
    write_dicom_seg(labels, oblique, tmp_path / "seg.dcm", SEGMENTS)
    assert_valid(tmp_path / "seg.dcm")
    back = read_with_highdicom(tmp_path / "seg.dcm", series_files(oblique))
    voxels = sitk.GetArrayFromImage(labels)
    np.testing.assert_array_equal(back[..., 0], voxels == 1)
    np.testing.assert_array_equal(back[..., 1], voxels == 7)
    seen, attributes = read_with_dcmqi(tmp_path / "seg.dcm", tmp_path / "out", Grid.of(labels))
    np.testing.assert_array_equal(seen[0] > 0, voxels == 1)
    np.testing.assert_array_equal(seen[1] > 0, voxels == 7)
    assert [a["SegmentLabel"] for a in attributes] == ["Airway tree", "Nodule"]


@pytest.mark.parametrize("name", REAL_SERIES)
def test_real_series_round_trip(real_series: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder, path = real_series[name], tmp_path / "seg.dcm"
    labels = blob(folder)
    write_dicom_seg(labels, folder, path, [TUMOR])
    voxels = sitk.GetArrayFromImage(labels)
    assert voxels.sum() > 40
    if len(series_files(folder)) > 1:
        back = read_with_highdicom(path, series_files(folder))
        np.testing.assert_array_equal(back[..., 0], voxels)
    (again, _) = read_dicom_seg(path).layers()[0]
    placed = sitk.GetArrayFromImage(on_scan(again, Grid.of(labels)))
    np.testing.assert_array_equal(placed, voxels)
    assert_valid(path)
    (seen,), _ = read_with_dcmqi(path, tmp_path / "out", Grid.of(labels))
    np.testing.assert_array_equal(seen, voxels)


@pytest.mark.parametrize("axes", ["flipped", "permuted"])
def test_labels_with_other_axes_are_put_right(oblique: Path, tmp_path: Path, axes: str) -> None:
    labels = two_labels(oblique)
    turned = (
        sitk.Flip(labels, [True, False, True])
        if axes == "flipped"
        else sitk.PermuteAxes(labels, [2, 0, 1])
    )
    write_dicom_seg(turned, oblique, tmp_path / "seg.dcm", SEGMENTS)
    back = read_with_highdicom(tmp_path / "seg.dcm", series_files(oblique))
    np.testing.assert_array_equal(back[..., 0], sitk.GetArrayFromImage(labels) == 1)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_labels_that_went_through_a_file_still_fit(
    oblique: Path, tmp_path: Path, suffix: str
) -> None:
    sitk.WriteImage(two_labels(oblique), str(tmp_path / f"labels{suffix}"))
    labels = read_image(tmp_path / f"labels{suffix}")
    write_dicom_seg(labels, oblique, tmp_path / "seg.dcm", SEGMENTS)


def test_whole_numbers_in_a_real_type_are_labels(oblique: Path, tmp_path: Path) -> None:
    labels = sitk.Cast(two_labels(oblique), sitk.sitkFloat64)
    write_dicom_seg(labels, oblique, tmp_path / "seg.dcm", SEGMENTS)
    assert pydicom.dcmread(tmp_path / "seg.dcm").NumberOfFrames == 6


def test_a_segment_without_voxels_is_left_out_with_a_warning(oblique: Path, tmp_path: Path) -> None:
    labels = two_labels(oblique) == 7
    with pytest.warns(UserWarning, match="Airway tree has no voxels"):
        write_dicom_seg(labels * 7, oblique, tmp_path / "seg.dcm", SEGMENTS)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert [s.SegmentLabel for s in seg.SegmentSequence] == ["Nodule"]
    assert seg.SegmentSequence[0].SegmentNumber == 1
    assert_valid(tmp_path / "seg.dcm")


def test_one_of_several_series_is_picked(oblique: Path, tmp_path: Path) -> None:
    folder = tmp_path / "both"
    shutil.copytree(oblique, folder)
    uid = pydicom.dcmread(next(folder.iterdir())).SeriesInstanceUID
    for n, path in enumerate(write_dicom_series(read_image(oblique), tmp_path / "b")):
        shutil.copy(path, folder / f"b{n}.dcm")
    labels = two_labels(oblique)
    path = tmp_path / "seg.dcm"
    error = refusal(InputError, lambda: write_dicom_seg(labels, folder, path, SEGMENTS))
    assert error.code == "several-series"
    write_dicom_seg(labels, folder, path, SEGMENTS, series_uid=uid)
    assert pydicom.dcmread(path).ReferencedSeriesSequence[0].SeriesInstanceUID == uid


def test_a_segmentation_beside_the_slices_does_not_disturb(oblique: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dicom"
    shutil.copytree(oblique, folder)
    for name in ("one.dcm", "two.dcm"):
        write_dicom_seg(two_labels(folder), folder, folder / name, SEGMENTS)
    assert read_image(folder).GetSize() == (24, 20, 9)


def test_every_export_has_identifiers_of_its_own(oblique: Path, tmp_path: Path) -> None:
    seen = []
    for n in range(2):
        write_dicom_seg(two_labels(oblique), oblique, tmp_path / f"{n}.dcm", SEGMENTS)
        seg = pydicom.dcmread(tmp_path / f"{n}.dcm")
        seen += [seg.SOPInstanceUID, seg.SeriesInstanceUID]
        seen += [s.TrackingUID for s in seg.SegmentSequence]
    assert len(set(seen)) == 8


def _labels(edit: Callable[[np.ndarray], object], dtype: type = np.uint8):
    def make(folder: Path) -> sitk.Image:
        labels = two_labels(folder)
        values = sitk.GetArrayFromImage(labels).astype(dtype)
        edit(values)
        return image_from_array(values, Grid.of(labels))

    return make


def _set_voxel(value: float) -> Callable[[np.ndarray], object]:
    return lambda v: v.__setitem__((0, 0, 0), value)


HOSTILE_LABELS = {
    "unlabelled": (_labels(_set_voxel(255)), SEGMENTS, "labels-unlabelled"),
    "undeclared": (_labels(_set_voxel(9)), SEGMENTS, "labels-undeclared"),
    "negative": (_labels(_set_voxel(-1), np.int16), SEGMENTS, "labels-undeclared"),
    "beyond-8-bits": (_labels(_set_voxel(257), np.int16), SEGMENTS, "labels-undeclared"),
    "fraction": (_labels(_set_voxel(0.5), np.float32), SEGMENTS, "labels-not-whole"),
    "nan": (_labels(_set_voxel(np.nan), np.float32), SEGMENTS, "labels-not-whole"),
    "empty": (_labels(lambda v: v.fill(0)), SEGMENTS, "nothing-to-export"),
    "no-segments": (two_labels, (), "labels-undeclared"),
    "value-twice": (two_labels, (AIRWAY_TREE, LESION, NODULE), "segments-ambiguous"),
}


@pytest.mark.parametrize("name", HOSTILE_LABELS)
def test_labels_that_cannot_be_exported_are_refused(
    oblique: Path, tmp_path: Path, name: str
) -> None:
    make, segments, code = HOSTILE_LABELS[name]
    labels, path = make(oblique), tmp_path / "seg.dcm"
    error = refusal(InputError, lambda: write_dicom_seg(labels, oblique, path, segments))
    assert error.code == code
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"origin_mm": (-19.9, 15.5, -300.25)},
        {"spacing_mm": (0.8, 0.71, 3.0)},
        {"size": (24, 20, 8)},
        {"direction": (1, 0, 0, 0, 1, 0, 0, 0, 1)},
    ],
)
def test_labels_on_another_grid_are_refused(
    oblique: Path, tmp_path: Path, change: dict[str, tuple[float, ...]]
) -> None:
    grid = replace(Grid.of(read_image(oblique)), **change)
    labels = image_from_array(np.ones(grid.size[::-1], np.uint8), grid)
    path = tmp_path / "seg.dcm"
    error = refusal(GeometryError, lambda: write_dicom_seg(labels, oblique, path, [AIRWAY_TREE]))
    assert error.code == "grid-mismatch"


def edited(source: Path, target: Path, **values: object) -> Path:
    """A copy of a series with attributes set, or removed where the value is None."""
    target.mkdir()
    for path in source.iterdir():
        header = pydicom.dcmread(path)
        for keyword, value in values.items():
            if value is None:
                delattr(header, keyword)
            else:
                setattr(header, keyword, value)
        header.save_as(target / path.name)
    return target


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_a_series_without_what_must_be_quoted_is_refused(
    oblique: Path, tmp_path: Path, keyword: str
) -> None:
    folder = edited(oblique, tmp_path / "dicom", **{keyword: None})
    labels, path = two_labels(folder), tmp_path / "seg.dcm"
    error = refusal(InputError, lambda: write_dicom_seg(labels, folder, path, SEGMENTS))
    assert error.code == "dicom-tag-missing"
    assert keyword in error.message


def test_incomplete_lossy_compression_is_named(oblique: Path, tmp_path: Path) -> None:
    folder = edited(oblique, tmp_path / "dicom", LossyImageCompression="01")
    labels, path = two_labels(folder), tmp_path / "seg.dcm"
    error = refusal(InputError, lambda: write_dicom_seg(labels, folder, path, SEGMENTS))
    assert error.code == "dicom-tag-missing"
    assert "LossyImageCompressionRatio (0028,2112)" in error.message
    assert "LossyImageCompressionMethod (0028,2114)" in error.message


def test_lossy_compression_is_handed_on(oblique: Path, tmp_path: Path) -> None:
    folder = edited(
        oblique,
        tmp_path / "dicom",
        LossyImageCompression="01",
        LossyImageCompressionRatio="12.5",
        LossyImageCompressionMethod="ISO_10918_1",
    )
    write_dicom_seg(two_labels(folder), folder, tmp_path / "seg.dcm", SEGMENTS)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (seg.LossyImageCompression, seg.LossyImageCompressionRatio) == ("01", 12.5)
    assert_valid(tmp_path / "seg.dcm")


def test_absent_patient_attributes_are_written_empty(oblique: Path, tmp_path: Path) -> None:
    gone = ("PatientID", "PatientName", "PatientSex", "StudyDate", "StudyID", "AccessionNumber")
    folder = edited(oblique, tmp_path / "dicom", **dict.fromkeys(gone))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_dicom_seg(two_labels(folder), folder, tmp_path / "seg.dcm", SEGMENTS)
    assert_valid(tmp_path / "seg.dcm")


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("", "Mueller^Joerg"),
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 192", "山田^太郎"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ],
)
def test_names_keep_their_characters(
    oblique: Path, tmp_path: Path, charset: str | list[str], name: str
) -> None:
    folder = edited(oblique, tmp_path / "dicom", SpecificCharacterSet=charset, PatientName=name)
    write_dicom_seg(two_labels(folder), folder, tmp_path / "seg.dcm", SEGMENTS)
    assert str(pydicom.dcmread(tmp_path / "seg.dcm").PatientName) == name


def test_an_attribute_against_the_standard_is_explained(oblique: Path, tmp_path: Path) -> None:
    folder = edited(oblique, tmp_path / "dicom", PatientSex="MALE")
    labels, path = two_labels(folder), tmp_path / "seg.dcm"
    error = refusal(InputError, lambda: write_dicom_seg(labels, folder, path, SEGMENTS))
    assert error.code == "dicom-source-unusable"
    assert "MALE" in error.message


def test_blank_identifiers_of_a_real_export_are_named(data_folder: Path, tmp_path: Path) -> None:
    folder = data_folder / "ct_dicom_20_slices" / "dicom"
    labels = blob(folder)
    error = refusal(
        InputError, lambda: write_dicom_seg(labels, folder, tmp_path / "seg.dcm", [TUMOR])
    )
    assert error.code == "dicom-tag-missing"
    assert "StudyInstanceUID (0020,000D)" in error.message


def test_a_missing_folder_is_refused(oblique: Path, tmp_path: Path) -> None:
    labels, path = two_labels(oblique), tmp_path / "none" / "seg.dcm"
    error = refusal(OutputError, lambda: write_dicom_seg(labels, oblique, path, SEGMENTS))
    assert error.code == "output-folder-missing"


@pytest.mark.parametrize("made_by", ["automatic", "semiautomatic", "manual"])
def test_segments_say_how_much_of_them_a_person_did(
    oblique: Path, tmp_path: Path, made_by: str
) -> None:
    path = tmp_path / "seg.dcm"
    write_dicom_seg(two_labels(oblique), oblique, path, SEGMENTS, made_by=made_by)
    assert_valid(path)
    for item in pydicom.dcmread(path).SegmentSequence:
        assert made_by.upper() == item.SegmentAlgorithmType
        assert ("SegmentationAlgorithmIdentificationSequence" in item) == (made_by != "manual")


def overlapping(folder: Path) -> list[sitk.Image]:
    """Two images whose labels share voxels; one label is a single voxel, one touches the border."""
    grid = Grid.of(read_image(folder))
    first, second = (np.zeros(grid.size[::-1], np.uint8) for _ in range(2))
    first[2:6, 3:12, 2:11] = 1
    first[8, -1, -1] = 3
    second[4:, 5:, 9:] = 7
    return [image_from_array(values, grid) for values in (first, second)]


SPECK = replace(NODULE, label=3, name="Speck")


def test_overlapping_segments_are_kept_whole(oblique: Path, tmp_path: Path) -> None:
    path, images = tmp_path / "seg.dcm", overlapping(oblique)
    segments = (*SEGMENTS, SPECK)
    write_dicom_seg(images, oblique, path, segments)
    assert_valid(path)
    found = read_dicom_seg(path)
    grid = Grid.of(images[0])
    seen, _ = read_with_dcmqi(path, tmp_path / "out", grid)
    for segment, read, voxels in zip(segments, found.segments, seen, strict=True):
        wanted = sum(sitk.GetArrayFromImage(image) == segment.label for image in images) > 0
        assert read.info.name == segment.name
        # Slices at the ends that hold nothing are not stored.
        share = sitk.GetArrayFromImage(resample(read.share, grid, "nearest"))
        np.testing.assert_array_equal(share > 0, wanted)
        np.testing.assert_array_equal(voxels > 0, wanted)


def test_a_labelmap_holds_the_same_voxels(oblique: Path, tmp_path: Path) -> None:
    path, labels = tmp_path / "seg.dcm", two_labels(oblique)
    write_dicom_seg(labels, oblique, path, SEGMENTS, kind="labelmap")
    ((image, infos),) = read_dicom_seg(path).layers()
    assert [info.name for info in infos] == ["Airway tree", "Nodule"]
    back = sitk.GetArrayFromImage(on_scan(image, Grid.of(labels)))
    voxels = sitk.GetArrayFromImage(labels)
    np.testing.assert_array_equal(back, np.select([voxels == 1, voxels == 7], [1, 2]))
    with pytest.raises(InputError) as caught:
        write_dicom_seg(overlapping(oblique), oblique, path, (*SEGMENTS, SPECK), kind="labelmap")
    assert caught.value.code == "segments-overlap"


def test_probabilities_are_kept_to_a_255th(oblique: Path, tmp_path: Path) -> None:
    path, grid = tmp_path / "seg.dcm", Grid.of(read_image(oblique))
    draw = np.random.default_rng(1)
    maps = [draw.random(grid.size[::-1]).astype(np.float32) for _ in range(2)]
    images = [image_from_array(values, grid) for values in maps]
    write_dicom_seg(images, oblique, path, SEGMENTS, kind="fractional")
    assert_valid(path)
    for values, segment in zip(maps, read_dicom_seg(path).segments, strict=True):
        share = sitk.GetArrayFromImage(resample(segment.share, grid, "nearest"))
        assert np.abs(share - values).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(
    ("values", "code"), [(1.5, "probability-range"), (np.nan, "probability-range")]
)
def test_what_is_no_probability_is_told(
    oblique: Path, tmp_path: Path, values: float, code: str
) -> None:
    grid = Grid.of(read_image(oblique))
    image = image_from_array(np.full(grid.size[::-1], values, np.float32), grid)
    with pytest.raises(InputError) as caught:
        write_dicom_seg(image, oblique, tmp_path / "a.dcm", [AIRWAY_TREE], kind="fractional")
    assert caught.value.code == "probability-range"
    with pytest.raises(InputError) as caught:
        write_dicom_seg(image, oblique, tmp_path / "a.dcm", SEGMENTS, kind="fractional")
    assert caught.value.code == "probability-count"


def test_an_edited_segmentation_names_the_one_it_was(oblique: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.dcm", tmp_path / "second.dcm"
    write_dicom_seg(two_labels(oblique), oblique, first, SEGMENTS)
    renamed = (AIRWAY_TREE, replace(NODULE, name="Other nodule"))
    write_dicom_seg(
        two_labels(oblique), oblique, second, renamed, made_by="semiautomatic", predecessor=first
    )
    assert_valid(second)
    before, after = pydicom.dcmread(first), pydicom.dcmread(second)
    referred = {
        item.ReferencedSOPInstanceUID
        for series in after.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    }
    assert before.SOPInstanceUID in referred
    assert after.SOPInstanceUID != before.SOPInstanceUID
    uids = [[s.TrackingUID for s in dataset.SegmentSequence] for dataset in (before, after)]
    assert uids[0][0] == uids[1][0]
    assert uids[0][1] != uids[1][1]
    seen, _ = read_with_dcmqi(second, tmp_path / "out", Grid.of(two_labels(oblique)))
    assert len(seen) == 2


def test_a_predecessor_of_another_study_is_refused(oblique: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_dicom_series(read_image(oblique), other)
    write_dicom_seg(two_labels(other), other, tmp_path / "seg.dcm", SEGMENTS)
    for path in (tmp_path / "seg.dcm", next(oblique.glob("*.dcm"))):
        with pytest.raises(InputError) as caught:
            write_dicom_seg(
                two_labels(oblique), oblique, tmp_path / "b.dcm", SEGMENTS, predecessor=path
            )
        assert caught.value.code == "segmentation-elsewhere"


@pytest.mark.parametrize("name", ["airway", "ImbalanceSeg airway"])
def test_the_program_is_named_once(oblique: Path, tmp_path: Path, name: str) -> None:
    write_dicom_seg(two_labels(oblique), oblique, tmp_path / "a.dcm", SEGMENTS, algorithm_name=name)
    assert pydicom.dcmread(tmp_path / "a.dcm").SeriesDescription == "ImbalanceSeg airway"
