"""Every readable input gives its voxels in their place, every other one a named refusal."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from imbalanceseg import reading
from imbalanceseg.dicom.series import write_dicom_series
from imbalanceseg.errors import ImbalanceSegError, InputError, OutputError
from imbalanceseg.geometry import Grid
from imbalanceseg.io import (
    atomic_path,
    list_series,
    read_image,
    series_files,
    write_image,
    write_json,
    write_text,
)


def volume(dtype: type = np.int16) -> sitk.Image:
    values = np.random.default_rng(0).integers(-1000, 1000, (6, 7, 8))
    image = sitk.GetImageFromArray(values.astype(dtype))
    image.SetSpacing((0.7, 0.8, 1.25))
    image.SetOrigin((-10.5, 20.25, 30.0))
    c, s = np.cos(0.4), np.sin(0.4)
    image.SetDirection((c, 0, s, 0, 1, 0, -s, 0, c))
    return image


def series(folder: Path, edit: Callable[[int, Dataset], object] | None = None, **kwargs) -> Path:
    """A series of six slices; ``edit`` may change a dataset, or return False to drop its file."""
    for n, path in enumerate(write_dicom_series(volume(), folder, **kwargs)):
        if edit is None:
            continue
        header = pydicom.dcmread(path)
        if edit(n, header) is False:
            path.unlink()
        else:
            header.save_as(path)
    return folder


def refusal(kind: type[ImbalanceSegError], call: Callable[[], object]) -> ImbalanceSegError:
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    assert "\n" not in error.message
    assert error.message.endswith(".")
    assert error.hint
    assert error.code == error.code.lower()
    return error


def assert_same_image(a: sitk.Image, b: sitk.Image) -> None:
    assert a.GetPixelID() == b.GetPixelID()
    assert Grid.of(a).same_as(Grid.of(b), 1e-4)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(a), sitk.GetArrayFromImage(b))


# Volume files


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_written_images_come_back(tmp_path: Path, suffix: str, dtype: type) -> None:
    write_image(volume(dtype), tmp_path / f"case{suffix}")
    assert_same_image(read_image(tmp_path / f"case{suffix}"), volume(dtype))
    assert [p.name for p in tmp_path.iterdir()] == [f"case{suffix}"]


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_detached_headers_are_read(tmp_path: Path, suffix: str) -> None:
    sitk.WriteImage(volume(), str(tmp_path / f"case{suffix}"))
    assert_same_image(read_image(tmp_path / f"case{suffix}"), volume())


def test_names_beyond_ascii_are_read(tmp_path: Path) -> None:
    write_image(volume(), tmp_path / "Über größe 肺.nii.gz")
    assert_same_image(read_image(tmp_path / "Über größe 肺.nii.gz"), volume())


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_trailing_axis_of_length_one_is_dropped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"case{suffix}"
    sitk.WriteImage(sitk.JoinSeries([volume()]), str(path))
    assert_same_image(read_image(path), volume())


@pytest.mark.parametrize("axes", ["0", "-3", "10", "2147483648", "4294967295", "1e300", "3x", ""])
def test_a_metaimage_of_absurdly_many_axes_is_refused(tmp_path: Path, axes: str) -> None:
    path = tmp_path / "image.mha"
    sitk.WriteImage(volume(), str(path))
    content = path.read_bytes().replace(b"NDims = 3", f"NDims = {axes}".encode())
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_image(path)
    assert refused.value.code == "image-unreadable"


def test_scaled_nifti_is_read_and_found_complete(tmp_path: Path) -> None:
    path = tmp_path / "case.nii"
    sitk.WriteImage(volume(), str(path))
    raw = bytearray(path.read_bytes())
    struct.pack_into("<2f", raw, 112, 0.5, 3.0)
    path.write_bytes(raw)
    expected = sitk.GetArrayFromImage(volume()) * 0.5 + 3
    np.testing.assert_allclose(sitk.GetArrayFromImage(read_image(path)), expected)


def test_gzip_of_several_members_is_read(tmp_path: Path) -> None:
    sitk.WriteImage(volume(), str(tmp_path / "case.nii"))
    raw = (tmp_path / "case.nii").read_bytes()
    path = tmp_path / "case.nii.gz"
    path.write_bytes(gzip.compress(raw[:500]) + gzip.compress(raw[500:]))
    assert_same_image(read_image(path), volume())


def _write(image: sitk.Image, name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        sitk.WriteImage(image, str(folder / name))
        return folder / name

    return make


def _cut(name: str, compressed: bool = False) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        sitk.WriteImage(volume(np.float32), str(path), compressed)
        raw = path.read_bytes()
        path.write_bytes(raw[: len(raw) * 2 // 3])
        return path

    return make


def _patched(layout: str, offset: int, *values: float) -> Callable[[Path], Path]:
    """A NIfTI file with values written over its header; the sform is the only transform."""

    def make(folder: Path) -> Path:
        path = folder / "case.nii"
        sitk.WriteImage(volume(), str(path))
        raw = bytearray(path.read_bytes())
        struct.pack_into("<h", raw, 252, 0)
        struct.pack_into(layout, raw, offset, *values)
        path.write_bytes(raw)
        return path

    return make


def _bytes(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _without_data(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        sitk.WriteImage(volume(), str(folder / name))
        (folder / name).with_suffix(".raw").unlink()
        return folder / name

    return make


def _corrupt_gzip(folder: Path) -> Path:
    path = folder / "case.nii.gz"
    noise = np.random.default_rng(0).normal(size=(40, 50, 60))  # larger than a reader's buffer
    sitk.WriteImage(sitk.GetImageFromArray(noise), str(path))
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 0xFF  # the checksum
    path.write_bytes(raw)
    return path


def _inflated_claim(folder: Path) -> Path:
    """A few bytes whose header claims 32,000 voxels along every axis."""
    path = _patched("<3h", 42, 32000, 32000, 32000)(folder)
    packed = folder / "case.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed


_rgb = sitk.Compose([sitk.Cast(sitk.Abs(volume()) / 4, sitk.sitkUInt8)] * 3)
_complex = sitk.RealAndImaginaryToComplex(volume(np.float32), volume(np.float32))

HOSTILE_FILES = {
    "missing": (lambda folder: folder / "none.nii.gz", "path-not-found"),
    "text-named-nifti": (_bytes("case.nii.gz", b"hello\n"), "image-unreadable"),
    "text": (_bytes("notes.txt", b"hello\n"), "image-unreadable"),
    "text-named-nrrd": (_bytes("case.nrrd", b"hello\n"), "image-unreadable"),
    "text-named-dicom": (_bytes("case.dcm", b"hello\n"), "image-unreadable"),
    "nul-bytes": (_bytes("case.mha", b"\0" * 4096), "image-unreadable"),
    "dicom-magic-only": (_bytes("case.dcm", b"\0" * 128 + b"DICM"), "dicom-unreadable"),
    "dicom-magic-and-noise": (
        _bytes("case.dcm", b"\0" * 128 + b"DICM" + bytes(range(256)) * 8),
        "dicom-unreadable",
    ),
    "empty": (_bytes("case.nii.gz", b""), "file-empty"),
    "2d": (_write(volume()[:, :, 0], "case.nii.gz"), "image-not-3d"),
    "2d-png": (_write(sitk.Image([9, 9], sitk.sitkUInt8), "case.png"), "image-not-3d"),
    "4d": (_write(sitk.JoinSeries([volume()] * 2), "case.nii.gz"), "image-not-3d"),
    "4d-nrrd": (_write(sitk.JoinSeries([volume()] * 2), "case.nrrd"), "image-not-3d"),
    "rgb": (_write(_rgb, "case.nii.gz"), "image-not-scalar"),
    "vector": (_write(_rgb, "case.nrrd"), "image-not-scalar"),
    "complex": (_write(_complex, "case.nii.gz"), "image-not-scalar"),
    "cut-nii": (_cut("case.nii"), "file-truncated"),
    "cut-nii-gz": (_cut("case.nii.gz", True), "file-truncated"),
    "corrupt-nii-gz": (_corrupt_gzip, "image-damaged"),
    "cut-nrrd": (_cut("case.nrrd"), "image-damaged"),
    "cut-nrrd-gzip": (_cut("case.nrrd", True), "image-damaged"),
    "cut-mha": (_cut("case.mha"), "image-damaged"),
    "cut-mha-gzip": (_cut("case.mha", True), "image-damaged"),
    "mhd-without-data": (_without_data("case.mhd"), "image-damaged"),
    "nhdr-without-data": (_without_data("case.nhdr"), "image-unreadable"),
    "sheared": (_patched("<12f", 280, 1, 0.5, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0), "axes-not-orthogonal"),
    "singular": (_patched("<12f", 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0), "axes-not-orthogonal"),
    "nan-axes": (_patched("<12f", 280, *[float("nan")] * 12), "geometry-singular"),
    "huge": (_patched("<3h", 42, 32000, 32000, 32000), "file-truncated"),
    "huge-gzip": (_inflated_claim, "file-truncated"),
    "huge-nrrd": (
        _bytes(
            "case.nrrd",
            b"NRRD0004\ntype: float\ndimension: 3\nsizes: 30000 30000 30000\n"
            b"endian: little\nencoding: gzip\n\n" + gzip.compress(b"\0" * 64),
        ),
        "image-too-large",
    ),
}


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_hostile_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    make, code = HOSTILE_FILES[name]
    path = make(tmp_path)
    assert refusal(InputError, lambda: read_image(path)).code == code


def test_a_device_is_not_a_file() -> None:
    if not Path("/dev/null").exists():
        pytest.skip("This system has no /dev/null.")
    assert refusal(InputError, lambda: read_image("/dev/null")).code == "not-a-file"


def test_what_does_not_fit_into_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(volume(), tmp_path / "case.nrrd")
    series(tmp_path / "dicom")
    monkeypatch.setattr(reading, "_available_bytes", lambda: 100)
    for path in (tmp_path / "case.nrrd", tmp_path / "dicom"):
        assert refusal(InputError, lambda p=path: read_image(p)).code == "image-too-large"


def test_a_series_of_a_single_file_cannot_be_asked_for(tmp_path: Path) -> None:
    write_image(volume(), tmp_path / "case.nrrd")
    error = refusal(InputError, lambda: read_image(tmp_path / "case.nrrd", "1.2.3"))
    assert error.code == "series-without-folder"


# DICOM folders


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_series_comes_back_voxel_for_voxel(tmp_path: Path, modality: str) -> None:
    series(tmp_path / "dicom", modality=modality)
    assert_same_image(read_image(tmp_path / "dicom"), volume())


def test_one_file_stands_for_its_series(tmp_path: Path) -> None:
    series(tmp_path / "dicom", series_number=1)
    other = write_dicom_series(volume() + 1, tmp_path / "other")
    for path in other:
        shutil.copy(path, tmp_path / "dicom" / f"b{path.name}")
    assert_same_image(read_image(tmp_path / "dicom" / "bIM0003.dcm"), volume() + 1)


def test_file_names_and_instance_numbers_do_not_decide_the_order(tmp_path: Path) -> None:
    folder = series(tmp_path / "dicom", lambda n, h: setattr(h, "InstanceNumber", (n * 5) % 6))
    for n, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"{(n * 7 + 3) % 11:02d}.dcm")
    assert_same_image(read_image(folder), volume())
    positions = [
        [float(x) for x in pydicom.dcmread(p).ImagePositionPatient] for p in series_files(folder)
    ]
    expected = [volume().TransformIndexToPhysicalPoint((0, 0, k)) for k in range(6)]
    np.testing.assert_allclose(positions, expected, atol=1e-6)


def test_other_files_beside_the_slices_are_passed_over(tmp_path: Path) -> None:
    folder = series(tmp_path / "dicom")
    (folder / "README.md").write_text("hello")
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"junk")
    (folder / "deeper").mkdir()
    assert_same_image(read_image(folder), volume())


def test_a_screenshot_beside_the_slices_is_passed_over(tmp_path: Path) -> None:
    folder = series(tmp_path / "dicom")
    shot = pydicom.dcmread(folder / "IM0001.dcm")
    shot.SeriesInstanceUID = "1.2.3.4"
    del shot.ImagePositionPatient
    shot.save_as(folder / "shot.dcm")
    assert_same_image(read_image(folder), volume())
    assert [s.kind for s in list_series(folder)] == ["slices", "unplaced"]
    error = refusal(InputError, lambda: read_image(folder, "1.2.3.4"))
    assert error.code == "dicom-no-position"


def test_fractional_rescale_gives_real_values(tmp_path: Path) -> None:
    folder = series(tmp_path / "dicom", lambda n, h: setattr(h, "RescaleSlope", "0.5"))
    image = read_image(folder)
    assert image.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(volume()) * 0.5
    )


def test_rescale_of_each_slice_is_its_own(tmp_path: Path) -> None:
    folder = series(tmp_path / "dicom", lambda n, h: setattr(h, "RescaleSlope", str(1 + n / 2)))
    factors = (1 + np.arange(6) / 2)[:, None, None]
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(read_image(folder)), sitk.GetArrayFromImage(volume()) * factors
    )


def test_values_beyond_int16_are_kept(tmp_path: Path) -> None:
    folder = series(tmp_path / "dicom", lambda n, h: setattr(h, "RescaleIntercept", "40000"))
    image = read_image(folder)
    assert image.GetPixelID() == sitk.sitkInt32
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(volume()).astype(int) + 40000
    )


def test_two_series_are_listed_and_one_can_be_picked(tmp_path: Path) -> None:
    folder = series(tmp_path / "dicom", description="Lung\nkernel")
    for n, path in enumerate(write_dicom_series(volume() + 1, tmp_path / "b", description="Soft")):
        shutil.copy(path, folder / f"b{n}.dcm")
    infos = list_series(folder)
    assert sorted((i.description, i.modality, len(i.files)) for i in infos) == [
        ("Lung kernel", "CT", 6),
        ("Soft", "CT", 6),
    ]
    error = refusal(InputError, lambda: read_image(folder))
    assert error.code == "several-series"
    for info in infos:
        assert info.uid in error.message
        assert info.description in error.message
    assert "--series" in error.hint
    soft = next(i.uid for i in infos if i.description == "Soft")
    assert_same_image(read_image(folder, soft), volume() + 1)
    assert refusal(InputError, lambda: read_image(folder, "1.2")).code == "series-not-found"


def _move(header: Dataset, k: float = 0.0, aside: float = 0.0) -> None:
    """Move a slice by ``k`` steps along its normal and ``aside`` mm along its rows."""
    cosines = np.array(header.ImageOrientationPatient, dtype=float)
    normal = np.cross(cosines[:3], cosines[3:])
    position = np.array(header.ImagePositionPatient, dtype=float)
    position += normal * k * float(header.SliceThickness) + cosines[:3] * aside
    header.ImagePositionPatient = [f"{x:.9f}"[:16] for x in position]


def _set(keyword: str, value: object, only: int | None = None) -> Callable[[int, Dataset], None]:
    def edit(n: int, header: Dataset) -> None:
        if only is None or n == only:
            setattr(header, keyword, value)

    return edit


def _unset(keyword: str, only: int | None = None) -> Callable[[int, Dataset], None]:
    def edit(n: int, header: Dataset) -> None:
        if (only is None or n == only) and keyword in header:
            delattr(header, keyword)

    return edit


def _enhance(n: int, header: Dataset) -> bool | None:
    header.NumberOfFrames = 2
    header.PixelData = header.PixelData * 2
    return None if n == 0 else False


def _half(keyword: str, value: object) -> Callable[[int, Dataset], None]:
    def edit(n: int, header: Dataset) -> None:
        if n % 2:
            setattr(header, keyword, value)

    return edit


def _smaller(n: int, header: Dataset) -> None:
    if n % 2:
        header.Rows, header.PixelData = 6, header.PixelData[: 6 * header.Columns * 2]


def _enhance_two(n: int, header: Dataset) -> bool | None:
    _enhance(0, header)
    return None if n < 2 else False


HOSTILE_SERIES = {
    "two-missing-slices": (lambda n, h: n not in (2, 3), "dicom-missing-slice"),
    "single-slice": (lambda n, h: n == 2, "dicom-single-image"),
    "far-apart": (lambda n, h: _move(h, 20 * (n > 2)), "dicom-missing-slice"),
    "duplicate": (lambda n, h: _move(h, -1) if n == 3 else None, "dicom-duplicate-positions"),
    "all-in-one-place": (lambda n, h: _move(h, -n), "dicom-duplicate-positions"),
    "uneven": (lambda n, h: _move(h, 0.9 * (n % 2)), "dicom-uneven-spacing"),
    "steep": (lambda n, h: _move(h, aside=1.4 * n), "gantry-tilt"),
    "shifted": (lambda n, h: _move(h, aside=2.0 * (n == 3)), "dicom-shifted-slices"),
    "mixed-sizes": (_smaller, "dicom-mixed-sizes"),
    "mixed-spacing": (_half("PixelSpacing", ["0.5", "0.5"]), "dicom-mixed-sizes"),
    "mixed-orientation": (
        _half("ImageOrientationPatient", ["0", "1", "0", "0", "0", "-1"]),
        "dicom-mixed-orientations",
    ),
    "skewed-orientation": (
        _set("ImageOrientationPatient", ["1", "0", "0", "0.5", "0.866", "0"]),
        "dicom-tag-invalid",
    ),
    "zero-orientation": (_set("ImageOrientationPatient", ["0"] * 6), "dicom-tag-invalid"),
    "short-orientation": (_set("ImageOrientationPatient", ["1", "0", "0"]), "dicom-tag-invalid"),
    "no-positions": (_unset("ImagePositionPatient"), "dicom-no-position"),
    "no-position-in-one": (_unset("ImagePositionPatient", 3), "dicom-tag-missing"),
    "no-pixel-spacing": (_unset("PixelSpacing"), "dicom-tag-missing"),
    "zero-pixel-spacing": (_set("PixelSpacing", ["0", "1"]), "dicom-tag-invalid"),
    "no-pixels": (_unset("PixelData", 3), "dicom-undecodable"),
    "no-rows": (_unset("Rows", 3), "dicom-unreadable"),
    "colour": (_set("SamplesPerPixel", 3), "image-not-scalar"),
    "frames-in-a-slice": (_enhance, "dicom-unreadable"),
    "frames-in-two-files": (_enhance_two, "dicom-multiframe"),
    "not-images": (_set("Modality", "SR"), "no-dicom"),
}


@pytest.mark.parametrize("name", HOSTILE_SERIES)
def test_irregular_series_are_refused_by_name(tmp_path: Path, name: str) -> None:
    edit, code = HOSTILE_SERIES[name]
    folder = series(tmp_path / "dicom", edit)
    assert refusal(InputError, lambda: read_image(folder)).code == code


def test_the_missing_slices_are_counted(tmp_path: Path) -> None:
    folder = series(tmp_path / "dicom", lambda n, h: n not in (2, 3))
    message = refusal(InputError, lambda: read_image(folder)).message
    assert "lacks 2 slices" in message
    assert "IM0002.dcm and IM0005.dcm" in message
    assert "3.75 mm apart instead of 1.25 mm" in message


def test_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = series(tmp_path / "dicom")
    path = folder / "IM0003.dcm"
    raw = path.read_bytes()
    spacing = str(pydicom.dcmread(path).PixelSpacing[0]).encode()
    path.write_bytes(raw.replace(spacing + b"\\", b"x" * len(spacing) + b"\\", 1))
    assert refusal(InputError, lambda: read_image(folder)).code == "dicom-tag-invalid"


def test_rounded_positions_are_no_reason_to_refuse(tmp_path: Path) -> None:
    def edit(n: int, header: Dataset) -> None:
        header.ImagePositionPatient = [f"{float(x):.2f}" for x in header.ImagePositionPatient]

    image = read_image(series(tmp_path / "dicom", edit))
    assert Grid.of(image).same_as(Grid.of(volume()), 0.02)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.97])
def test_a_cut_slice_is_refused(tmp_path: Path, share: float) -> None:
    folder = series(tmp_path / "dicom")
    path = folder / "IM0004.dcm"
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    refusal(InputError, lambda: read_image(folder))


def test_what_follows_the_pixels_may_be_padding_and_claims_no_more_than_there_is(
    tmp_path: Path,
) -> None:
    folder = series(tmp_path / "dicom")
    before = sitk.GetArrayFromImage(read_image(folder))
    path = folder / "IM0004.dcm"
    raw = path.read_bytes()
    padding = b"\xfc\xff\xfc\xffOB\0\0\x04\0\0\0\0\0\0\0"
    path.write_bytes(raw + padding)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(folder)), before)
    # An element that claims 2.5 GB, as in the corpus of damaged files.
    path.write_bytes(raw + b"\x7e\x1e\x95\xc2OB\0\0\xfc\xff\xff\x94" + b"\0" * 600)
    assert refusal(InputError, lambda: read_image(folder)).code == "dicom-unreadable"


def test_places_in_a_deflated_file_are_not_compared_with_its_size(tmp_path: Path) -> None:
    folder = series(tmp_path / "dicom")
    before = sitk.GetArrayFromImage(read_image(folder))
    path = folder / "IM0004.dcm"
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    header.DataSetTrailingPadding = bytes(2000)
    header.save_as(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(folder)), before)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(InputError, lambda: read_image(tmp_path)).code == "folder-empty"


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert refusal(InputError, lambda: read_image(tmp_path)).code == "no-dicom"
    error = refusal(InputError, lambda: list_series(tmp_path / "none"))
    assert error.code == "path-not-found"


# Real scans


@pytest.mark.parametrize(
    ("folder", "size", "compare"),
    [
        ("ct_dicom_20_slices/dicom", (512, 512, 20), True),
        ("dicom_mr", (256, 256, 192), True),
        ("airway_ricord/dicom", (512, 512, 248), False),
    ],
)
def test_real_series_lie_where_their_slices_lie(
    data_folder: Path, folder: str, size: tuple[int, ...], compare: bool
) -> None:
    image = read_image(data_folder / folder)
    assert image.GetSize() == size
    files = series_files(data_folder / folder)
    for k in (0, size[2] // 2, size[2] - 1):
        header = pydicom.dcmread(files[k])
        np.testing.assert_allclose(
            image.TransformIndexToPhysicalPoint((0, 0, k)), header.ImagePositionPatient, atol=1e-3
        )
        # pydicom decodes apart from ITK
        stored = header.pixel_array * float(header.get("RescaleSlope") or 1)
        expected = stored + float(header.get("RescaleIntercept") or 0)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image[:, :, k]), expected)
    if compare:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames([str(p) for p in files])
        plain = reader.Execute()
        assert Grid.of(plain).same_as(Grid.of(image), 1e-3)
        assert sitk.Hash(sitk.Cast(plain, sitk.sitkInt32)) == sitk.Hash(
            sitk.Cast(image, sitk.sitkInt32)
        )


def test_a_real_folder_of_several_series_is_refused(data_folder: Path) -> None:
    folder = data_folder / "dicom_seg_dcmqi"
    error = refusal(InputError, lambda: read_image(folder))
    assert error.code == "several-series"
    placed = [s for s in list_series(folder) if s.kind == "slices"]
    assert all(s.uid in error.message for s in placed)
    assert read_image(folder, placed[0].uid).GetSize()[2] == 3


# Writing


def test_an_error_inside_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "result.txt"
    target.write_text("old")

    def write() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_temporary_name_keeps_folder_and_suffixes(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "labels.nii.gz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffixes[-2:] == [".nii", ".gz"]
        assert not (tmp_path / "labels.nii.gz").exists()
        temporary.write_bytes(b"x")
    assert (tmp_path / "labels.nii.gz").read_bytes() == b"x"


def test_text_and_json_are_replaced_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "größe\n")
    assert (tmp_path / "a.txt").read_bytes() == "größe\n".encode()
    write_json(tmp_path / "a.json", {"b": [1, 2.5], "µ": None})
    write_json(tmp_path / "a.json", {"b": 2})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"b": 2}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"b": float("nan")})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.txt"]


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.nrrd"
    assert refusal(OutputError, lambda: write_image(volume(), path)).code == "output-folder-missing"


def test_a_folder_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").mkdir()
    error = refusal(OutputError, lambda: write_image(volume(), tmp_path / "a.nrrd"))
    assert error.code == "output-is-a-folder"


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr", "a.png", "a", "a.nii.xz"])
def test_formats_that_are_not_one_file_are_refused(tmp_path: Path, name: str) -> None:
    error = refusal(OutputError, lambda: write_image(volume(), tmp_path / name))
    assert error.code == "output-format-unknown"


def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("This user may write into read-only folders.")
        error = refusal(OutputError, lambda: write_image(volume(), tmp_path / "a.nrrd"))
    finally:
        tmp_path.chmod(0o700)
    assert error.code == "output-not-writable"


@pytest.mark.parametrize("call", [write_text, lambda p, _: write_image(volume(), p)])
def test_a_file_system_that_takes_no_files_is_refused(call: Callable[..., None]) -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("This system has no /proc.")
    error = refusal(OutputError, lambda: call("/proc/self/a.nrrd", "text"))
    assert error.code in ("output-not-writable", "output-not-written")


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "disk-full"), (errno.EROFS, "output-not-writable")]
)
def test_what_the_system_refuses_becomes_a_sentence(tmp_path: Path, number: int, code: str) -> None:
    def write() -> None:
        with atomic_path(tmp_path / "a.txt"):
            raise OSError(number, os.strerror(number))

    assert refusal(OutputError, write).code == code
    assert not list(tmp_path.iterdir())


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_path(tmp_path / "a.txt"):
            pass

    assert refusal(OutputError, write).code == "output-not-written"


def test_reading_loads_no_torch() -> None:
    code = (
        "import sys, imbalanceseg.io, imbalanceseg.dicom.seg, imbalanceseg.dicom.series,"
        " imbalanceseg.preprocessing.scan; assert not {'torch', 'monai'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
