"""Image files of clients: NIfTI lies where ITK sees it, and label maps keep what they say."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.annotation.annotation import ConfirmedSlice
from imbalanceseg.annotation.files import load_annotation
from imbalanceseg.errors import ImbalanceSegError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.nrrd_stream import VolumeHeader
from imbalanceseg.server.monai_label.label_files import LabelForm, annotation_from, recoded
from imbalanceseg.server.monai_label.nifti import NiftiStream, nifti_header, parse_nifti

TILT = sitk.VersorTransform((0.3, -0.5, 0.8), 0.4).GetMatrix()
TILTED = Grid((7, 6, 5), (0.7, 0.8, 2.5), (-31.0, 12.5, 140.25), TILT)
MIRRORED = Grid((7, 6, 5), (1.0, 1.0, 2.0), (3.0, 4.0, 5.0), (-1, 0, 0, 0, 1, 0, 0, 0, 1))


def pieces(content: bytes, length: int) -> Iterator[bytes]:
    for start in range(0, len(content), length):
        yield content[start : start + length]


def through(content: bytes, folder: Path, length: int = 1000) -> sitk.Image:
    """What the engine makes of a file that comes in pieces."""
    stream = NiftiStream()
    path = folder / "through.nrrd"
    path.write_bytes(b"".join(b for one in pieces(content, length) for b in stream.feed(one)))
    return sitk.ReadImage(str(path))


def volume(grid: Grid, pixel_type: str) -> sitk.Image:
    array = np.random.default_rng(4).integers(0, 100, grid.size[::-1])
    return image_from_array(array.astype(pixel_type), grid)


def require_same(one: sitk.Image, other: sitk.Image) -> None:
    assert Grid.of(one).same_as(Grid.of(other))
    assert np.array_equal(sitk.GetArrayFromImage(one), sitk.GetArrayFromImage(other))


@pytest.mark.parametrize("grid", [TILTED, MIRRORED])
@pytest.mark.parametrize("pixel_type", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_a_volume_lies_where_itk_sees_it(tmp_path: Path, grid: Grid, pixel_type: str) -> None:
    path = tmp_path / "scan.nii"
    sitk.WriteImage(volume(grid, pixel_type), str(path))
    seen = sitk.ReadImage(str(path))
    for length in (1, 7, 351, 10_000):
        ours = through(path.read_bytes(), tmp_path, length)
        assert ours.GetPixelID() == seen.GetPixelID()
        require_same(ours, seen)


@pytest.mark.parametrize(
    ("qform", "sform"), [(0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (0, 2), (2, 0), (1, 4)]
)
def test_both_ways_to_tell_a_position_are_read(tmp_path: Path, qform: int, sform: int) -> None:
    angle = 0.2
    turned = np.diag([0.8, 0.9, 2.0, 1.0])
    turned[:2, :2] = [
        [0.8 * np.cos(angle), -0.9 * np.sin(angle)],
        [0.8 * np.sin(angle), 0.9 * np.cos(angle)],
    ]
    turned[:3, 3] = (5, -6, 7)
    straight = np.diag([-0.8, 0.9, 2.0, 1.0])
    image = nibabel.Nifti1Image(np.arange(210, dtype=np.int16).reshape(7, 6, 5), turned)
    image.set_qform(straight, qform)
    image.set_sform(turned, sform)
    nibabel.save(image, tmp_path / "scan.nii")
    seen = sitk.ReadImage(str(tmp_path / "scan.nii"))
    require_same(through((tmp_path / "scan.nii").read_bytes(), tmp_path), seen)


def test_scaled_big_endian_and_extended_files_are_read(tmp_path: Path) -> None:
    array = np.arange(210, dtype=">i2").reshape(7, 6, 5)
    header = nibabel.Nifti1Header(endianness=">")
    header.set_xyzt_units("mm")
    header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 3000))
    image = nibabel.Nifti1Image(array, np.diag([1, 1, 2, 1]), header)
    image.header.set_slope_inter(0.5, -10)
    path = tmp_path / "scan.nii"
    nibabel.save(image, path)
    ours = through(path.read_bytes(), tmp_path, 333)
    assert ours.GetPixelID() == sitk.sitkFloat32
    require_same(ours, sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32))


def test_headers_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    sitk.WriteImage(volume(MIRRORED, "int16"), str(path))
    whole = path.read_bytes()
    for at, change, code in (
        (0, b"\x00\x00\x00\x00", "not-nifti"),
        (344, b"ni1\0", "not-nifti"),
        (40, np.int16([4, 7, 6, 5, 3]).tobytes(), "image-not-3d"),
        (123, b"\x03", "header-damaged"),
        (116, np.float32("nan").tobytes(), "header-damaged"),
    ):
        body = whole[:at] + change + whole[at + len(change) :]
        if at == 116:
            body = body[:112] + np.float32(2).tobytes() + body[116:]
        with pytest.raises(ImbalanceSegError) as no:
            parse_nifti(body)
        assert no.value.code == code


@pytest.mark.parametrize("grid", [TILTED, MIRRORED])
def test_a_header_that_is_written_is_read_by_itk(tmp_path: Path, grid: Grid) -> None:
    image = volume(grid, "int16")
    voxels = sitk.GetArrayFromImage(image).astype("<i2").tobytes()
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(nifti_header(VolumeHeader.of([image])) + voxels))
    require_same(sitk.ReadImage(str(path)), image)


def saved(array: np.ndarray, folder: Path, pixel_type: str = "uint8") -> Path:
    path = folder / "saved.nrrd"
    sitk.WriteImage(image_from_array(array.astype(pixel_type), MIRRORED), str(path), True)
    return path


def kept(content: Iterator[bytes], folder: Path) -> Path:
    path = folder / "kept.nrrd"
    path.write_bytes(b"".join(content))
    return path


@pytest.mark.parametrize("pixel_type", ["uint8", "int16", "float32"])
def test_slices_with_labels_are_finished(tmp_path: Path, pixel_type: str) -> None:
    array = np.zeros((5, 6, 7))
    array[1, 2, 3], array[3, 4, 5] = 1, 2
    annotation = load_annotation(
        kept(annotation_from(saved(array, tmp_path, pixel_type)), tmp_path)
    )
    assert annotation.confirmed == [ConfirmedSlice(2, 1), ConfirmedSlice(2, 3)]
    assert np.array_equal(annotation.labels[[1, 3]], array[[1, 3]])
    assert (annotation.labels[[0, 2, 4]] == 255).all()


def test_a_map_may_say_itself_what_is_unlabelled(tmp_path: Path) -> None:
    array = np.full((5, 6, 7), 255)
    array[1, 2, 3], array[1, 2, 4] = 1, 0
    annotation = load_annotation(kept(annotation_from(saved(array, tmp_path)), tmp_path))
    assert annotation.confirmed == []
    assert np.array_equal(annotation.labels, array)


def test_labels_get_the_values_of_a_model(tmp_path: Path) -> None:
    array = np.zeros((5, 6, 7))
    array[1, 2, :3] = (3, 1, 2)
    first = kept(annotation_from(saved(array, tmp_path)), tmp_path)
    second = tmp_path / "second.nrrd"
    second.write_bytes(b"".join(recoded(first, {3: 1, 2: 2}, [1, 2])))
    annotation = load_annotation(second)
    assert annotation.confirmed == [ConfirmedSlice(2, 1)]
    assert annotation.classes == (1, 2)
    assert list(annotation.labels[1, 2, :4]) == [1, 0, 2, 0]
    assert (annotation.labels[0] == 255).all()


@pytest.mark.parametrize("extension", [".nii", ".nii.gz", ".nrrd"])
@pytest.mark.parametrize("pixel_type", ["uint8", "uint16", "int16", "float32"])
def test_labels_are_told_in_any_form(tmp_path: Path, extension: str, pixel_type: str) -> None:
    array = np.zeros((5, 6, 7))
    array[1, 2, :3] = (3, 255, 2)
    form = LabelForm.of({"result_extension": extension, "result_dtype": pixel_type})
    target = io.BytesIO()
    form.write(saved(array, tmp_path), target)
    path = tmp_path / f"told{extension}"
    path.write_bytes(target.getvalue())
    array[array == 255] = 0
    told = sitk.ReadImage(str(path))
    require_same(told, image_from_array(array.astype(pixel_type), MIRRORED))
    assert sitk.GetArrayViewFromImage(told).dtype == pixel_type
