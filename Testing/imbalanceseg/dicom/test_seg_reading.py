"""Segmentations of every program are read as others read them, and in their place."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imbalanceseg.cli.main import main
from imbalanceseg.dicom.seg import write_dicom_seg
from imbalanceseg.dicom.seg_reading import on_scan, read_dicom_seg, unlabelled_between
from imbalanceseg.errors import GeometryError, InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import read_image

from .test_seg import NODULE, SEGMENTS, read_with_dcmqi, two_labels

DATA = Path(os.environ.get("IMBALANCESEG_DATA", "nowhere"))
DCMQI, HIGHDICOM = DATA / "dicom_seg_dcmqi", DATA / "dicom_seg_highdicom"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="IMBALANCESEG_DATA is not set")


@pytest.fixture
def written(oblique: Path, tmp_path: Path) -> Path:
    path = tmp_path / "seg.dcm"
    write_dicom_seg(two_labels(oblique), oblique, path, SEGMENTS)
    return path


def test_what_was_written_is_read(oblique: Path, written: Path) -> None:
    found, labels = read_dicom_seg(written), two_labels(oblique)
    assert [s.info.name for s in found.segments] == ["Airway tree", "Nodule"]
    nodule = found.segments[1]
    assert (nodule.info.type, nodule.info.region) == (NODULE.type, NODULE.region)
    assert np.abs(np.subtract(nodule.info.color, NODULE.color)).max() <= 2
    assert nodule.algorithm == "AUTOMATIC"
    assert found.series_uid == str(pydicom.dcmread(next(oblique.iterdir())).SeriesInstanceUID)
    ((image, infos),) = found.layers()
    assert [info.label for info in infos] == [1, 2]
    back = sitk.GetArrayFromImage(on_scan(image, Grid.of(labels)))
    voxels = sitk.GetArrayFromImage(labels)
    np.testing.assert_array_equal(back, np.select([voxels == 1, voxels == 7], [1, 2]))


@needs_data
@pytest.mark.parametrize(
    "name",
    [
        "dicom_seg_dcmqi/23x38x3__seg__label.seg",
        "dicom_seg_dcmqi/24x38x3__seg__label.seg",
        "dicom_seg_dcmqi/liver.dcm",
        "dicom_seg_dcmqi/partial_overlaps.dcm",
        "dicom_seg_highdicom/seg_image_ct_binary.dcm",
        "dicom_seg_highdicom/seg_image_ct_binary_overlap.dcm",
        "dicom_seg_highdicom/seg_image_ct_binary_single_frame.dcm",
    ],
)
def test_binary_files_of_others_are_read_as_dcmqi_reads_them(name: str, tmp_path: Path) -> None:
    found = read_dicom_seg(DATA / name)
    seen, attributes = read_with_dcmqi(DATA / name, tmp_path / "out", found.grid)
    assert len(seen) == len(found.segments) == len(attributes)
    for segment, voxels, attribute in zip(found.segments, seen, attributes, strict=True):
        assert segment.mask().any()
        np.testing.assert_array_equal(segment.mask(), voxels > 0)
        assert segment.info.name == attribute["SegmentLabel"]
        assert (
            segment.info.type.value == attribute["SegmentedPropertyTypeCodeSequence"]["CodeValue"]
        )
        color = attribute["recommendedDisplayRGBValue"]
        # Those of highdicom have no colour, and each reader takes one of its own.
        if "dcmqi" in name:
            assert np.abs(np.subtract(segment.info.color, color)).max() <= 3


@needs_data
def test_overlapping_segments_come_in_as_many_images_as_they_need() -> None:
    found = read_dicom_seg(DCMQI / "partial_overlaps.dcm")
    layers = found.layers()
    assert len(layers) > 1
    for segment in found.segments:
        number = segment.info.label
        (home,) = [image for image, infos in layers if segment.info in infos]
        np.testing.assert_array_equal(sitk.GetArrayFromImage(home) == number, segment.mask())


@needs_data
@pytest.mark.parametrize("name", ["sparse-labelmap-noppv", "sparse-labelmap-ppv5"])
def test_a_labelmap_s_background_is_no_segment(name: str) -> None:
    found = read_dicom_seg(DCMQI / f"{name}.dcm")
    (liver,) = found.segments
    assert liver.info.name == "Liver"
    other = sitk.ReadImage(str(DCMQI / f"{name.replace('-', '_')}_seg.nrrd"))
    ((image, _),) = found.layers()
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(on_scan(image, Grid.of(other))) > 0,
        # What lies between its slices is filled with 5 by one of them, which describes no segment.
        sitk.GetArrayFromImage(other) == liver.info.label,
    )


@needs_data
def test_fractions_are_kept() -> None:
    path = HIGHDICOM / "seg_image_ct_true_fractional.dcm"
    (segment,) = read_dicom_seg(path).segments
    share = sitk.GetArrayFromImage(segment.share)
    assert share.dtype == np.float32
    assert 0 < share[(share > 0) & (share < 1)].mean() < 1
    stored = hd.seg.segread(path)
    assert share.max() == pytest.approx(stored.pixel_array.max() / stored.MaximumFractionalValue)
    np.testing.assert_array_equal(segment.mask(), share >= 0.5)


@needs_data
@pytest.mark.parametrize(
    ("path", "code"),
    [
        (HIGHDICOM / "seg_image_cr_binary.dcm", "seg-without-place"),
        (DCMQI / "ct-3slice__01.dcm", "not-a-segmentation"),
        (DCMQI / "liver_seg.nrrd", "dicom-seg-unreadable"),
        (DCMQI / "absent.dcm", "file-missing"),
    ],
)
def test_what_is_no_segmentation_of_a_volume_is_told(path: Path, code: str) -> None:
    with pytest.raises(InputError) as caught:
        read_dicom_seg(path)
    assert caught.value.code == code


def test_a_segmentation_of_another_scan_is_refused(oblique: Path, written: Path) -> None:
    ((image, _),) = read_dicom_seg(written).layers()
    grid = Grid.of(read_image(oblique))
    elsewhere = Grid(grid.size, grid.spacing_mm, (500.0, 0.0, 0.0), grid.direction)
    with pytest.raises(GeometryError) as caught:
        on_scan(image, elsewhere)
    assert caught.value.code == "seg-elsewhere"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_without_a_segment_may_count_as_unlabelled(axis: int) -> None:
    values = np.zeros((4, 4, 4), np.uint8)
    values.swapaxes(0, 2 - axis)[1, 2, 2] = 3
    grid = Grid((4, 4, 4), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    columns = np.roll(np.eye(3), axis - 2, axis=1)[:, [0, 1, 2]]
    columns[:, 2] = np.eye(3)[axis]
    slices = Grid((4, 4, 4), (1, 1, 1), (0, 0, 0), tuple(columns.ravel()))
    sparse = sitk.GetArrayFromImage(unlabelled_between(image_from_array(values, grid), slices))
    turned = sparse.swapaxes(0, 2 - axis)
    assert (turned[[0, 2, 3]] == 255).all()
    assert sorted(np.unique(turned[1]).tolist()) == [0, 3]


class TestCommand:
    def test_onto_the_scan(self, oblique: Path, written: Path, tmp_path: Path, capsys) -> None:
        target = tmp_path / "labels.nrrd"
        assert main(["read-seg", str(written), "-o", str(target), "--onto", str(oblique)]) == 0
        assert "Nodule" in capsys.readouterr().out
        values = sitk.GetArrayFromImage(read_image(target))
        assert np.array_equal(values > 0, sitk.GetArrayFromImage(two_labels(oblique)) > 0)

    def test_as_an_annotation(self, oblique: Path, written: Path, tmp_path: Path) -> None:
        target = tmp_path / "labels.nrrd"
        arguments = [
            "read-seg",
            str(written),
            "-o",
            str(target),
            "--onto",
            str(oblique),
            "--sparse",
        ]
        assert main(arguments) == 0
        values = sitk.GetArrayFromImage(read_image(target))
        assert (values[[0, 1, 7, 8]] == 255).all()
        assert set(np.unique(values[2:7]).tolist()) == {0, 1, 2}

    @needs_data
    def test_overlapping_segments_go_into_several_files(self, tmp_path: Path) -> None:
        source = DCMQI / "partial_overlaps.dcm"
        assert main(["read-seg", str(source), "-o", str(tmp_path / "a.nii.gz")]) == 0
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            "a-2.nii.gz",
            "a-3.nii.gz",
            "a.nii.gz",
        ]


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_files_are_read_or_told(
    written: Path,
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    content = bytearray(written.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 8))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / "seg.dcm"
    path.write_bytes(bytes(content))
    # Any other exception than that of an input that is told fails the test.
    with suppress(InputError):
        assert read_dicom_seg(path).layers()
    shutil.rmtree(folder)
