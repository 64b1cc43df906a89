"""Images in and out: volume files, DICOM folders, and results written whole or not at all."""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import SimpleITK as sitk

from imbalanceseg.atomic import atomic_path, write_json, write_text
from imbalanceseg.errors import InputError, OutputError
from imbalanceseg.geometry import Grid
from imbalanceseg.reading import quiet_readers, require_memory

if TYPE_CHECKING:
    from imbalanceseg.dicom_series import SeriesInfo

__all__ = [
    "WRITTEN_FORMATS",
    "atomic_path",
    "list_series",
    "read_image",
    "read_image_file",
    "series_files",
    "write_image",
    "write_json",
    "write_text",
]

WRITTEN_FORMATS = (".nrrd", ".nii.gz", ".nii", ".mha")
"""Formats of :func:`write_image`: those that keep an image in one file."""

_READABLE = (
    "Give a .nii, .nii.gz, .nrrd, .nhdr, .mha or .mhd file, or a folder with a DICOM series."
)
# Deflate cannot shrink data further than this; a header that claims more is damaged or hostile.
_DEFLATE_LIMIT = 1032
_TRAILING_BYTES = 1 << 26
_META_IMAGE_HEADER_BYTES = 1 << 16
_META_IMAGE_AXES = re.compile(rb"(?m)^[ \t]*NDims[ \t]*[=:](.*)$")


def read_image(path: str | os.PathLike[str], series_uid: str | None = None) -> sitk.Image:
    """Read a 3D scalar image.

    Args:
        path: a NIfTI, NRRD or MetaImage file, a folder that holds one DICOM series, or one DICOM
            file, which stands for the whole series it belongs to.
        series_uid: which series of a DICOM folder, where there are several.

    Returns:
        3D image in the pixel type of the file, LPS geometry in mm. Trailing axes of length one
        are dropped. DICOM slices are ordered along their normal and carry rescaled values.

    Raises:
        InputError: there is no such file, it is no image, it is damaged, incomplete, too large,
            not 3D or not scalar, or the folder does not hold one regular series.
    """
    path = Path(path)
    if path.is_dir():
        from imbalanceseg.dicom_series import open_series, read_series

        return read_series(open_series(path, series_uid))
    _require_file(path)
    if _is_dicom_file(path):
        from imbalanceseg.dicom_series import open_series, read_series, series_uid_of

        return read_series(open_series(path.parent, series_uid or series_uid_of(path)))
    if series_uid:
        raise InputError(
            "series-without-folder",
            f"A series can be picked from a DICOM folder, and {path.name} is a single image.",
            "Leave out --series.",
        )
    return read_image_file(path)


def read_image_file(
    path: str | os.PathLike[str], dimensions: tuple[int, ...] = (3,), scalar: bool = True
) -> sitk.Image:
    """Read one file that holds a whole image.

    Args:
        path: NIfTI, NRRD, MetaImage, or another format that ITK reads from one file.
        dimensions: how many the image may have; trailing axes of length one are dropped.
        scalar: whether several values a voxel, as of colours, are refused.

    Raises:
        InputError: as :func:`read_image`.
    """
    path = Path(path)
    _require_file(path)
    _require_few_axes(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with quiet_readers():
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise _not_an_image(path, error) from error
        kept = _kept_dimensions(reader, path, dimensions)
        _require_real(reader, path, scalar)
        if path.name.lower().endswith((".nii", ".nii.gz")):
            _require_complete_nifti(reader, path)
        value_bytes = sitk.Image([1, 1, 1], reader.GetPixelIDValue()).GetSizeOfPixelComponent()
        voxel_bytes = value_bytes * reader.GetNumberOfComponents()
        # Readers hold the stored values and the image at once.
        require_memory(2 * voxel_bytes * math.prod(reader.GetSize()), f"The image {path.name}")
        try:
            image = reader.Execute()
        except (RuntimeError, MemoryError) as error:
            raise _damaged(path) from error
    image = _without_trailing_axes(image, kept)
    return _soundly_placed(image, path) if kept == 3 else image


def list_series(folder: str | os.PathLike[str]) -> list[SeriesInfo]:
    """The DICOM image series whose files lie directly in ``folder``.

    Raises:
        InputError: no such folder, no files in it, or none of them is a DICOM image.
    """
    from imbalanceseg.dicom_series import list_series

    return list_series(folder)


def series_files(folder: str | os.PathLike[str], series_uid: str | None = None) -> list[Path]:
    """The files of one series, ordered along the slice normal as :func:`read_image` orders them.

    Raises:
        InputError: as :func:`read_image`.
    """
    from imbalanceseg.dicom_series import open_series

    return list(open_series(folder, series_uid).files)


def write_image(image: sitk.Image, path: str | os.PathLike[str]) -> None:
    """Write an image, compressed, atomically.

    Args:
        image: any scalar image.
        path: file name that ends in one of :data:`WRITTEN_FORMATS`; its folder must exist.

    Raises:
        OutputError: unknown format, or the file cannot be written.
    """
    target = Path(path)
    if not target.name.lower().endswith(WRITTEN_FORMATS):
        raise OutputError(
            "output-format-unknown",
            f"The name {target.name} does not say a format that can be written.",
            f"End the name in one of {', '.join(WRITTEN_FORMATS)}.",
        )
    with atomic_path(target) as temporary, quiet_readers():
        writer = sitk.ImageFileWriter()
        writer.SetFileName(str(temporary))
        writer.UseCompressionOn()
        try:
            writer.Execute(image)
        except RuntimeError as error:
            raise OutputError(
                "output-not-writable",
                f"The image {target} cannot be written.",
                "Check the space left on the disk and that you may write into the folder.",
            ) from error


def _require_file(path: Path) -> None:
    if not path.exists():
        raise InputError(
            "path-not-found",
            f"There is no file or folder {path}.",
            "Check the path for typing errors.",
        )
    if not path.is_file():
        raise InputError("not-a-file", f"{path} is neither a file nor a folder.", _READABLE)
    try:
        empty = not _head(path, 1)
    except OSError as error:
        raise InputError(
            "file-not-readable",
            f"The file {path} cannot be opened ({(error.strerror or 'unknown reason').lower()}).",
            "Check that you may read the file.",
        ) from error
    if empty:
        raise InputError(
            "file-empty", f"The file {path.name} is empty.", "Copy or export it again."
        )


def _head(path: Path, count: int) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(count)


def _is_dicom_file(path: Path) -> bool:
    return _head(path, 132)[128:] == b"DICM"


def _require_few_axes(path: Path) -> None:
    """Refuse a MetaImage whose number of axes is none: ITK would end the process."""
    if not path.name.lower().endswith((".mha", ".mhd")):
        return
    for said in _META_IMAGE_AXES.findall(_head(path, _META_IMAGE_HEADER_BYTES)):
        if not re.fullmatch(rb"[ \t]*[1-9][ \t\r]*", said):
            raise _not_an_image(path)


def _not_an_image(path: Path, error: RuntimeError | None = None) -> InputError:
    if error is not None and "orthonormal" in str(error):
        return InputError(
            "axes-not-orthogonal",
            f"The axes of {path.name} are sheared or singular, so its voxels form no regular grid.",
            "Resample the image to orthogonal axes first.",
        )
    return InputError(
        "image-unreadable",
        f"The file {path.name} is not an image in a known format, or its header is damaged.",
        _READABLE,
    )


def _damaged(path: Path) -> InputError:
    return InputError(
        "image-damaged",
        f"The voxels of {path.name} are damaged, incomplete or missing.",
        "Copy or export the image again, with its data file if it has one.",
    )


def _kept_dimensions(reader: sitk.ImageFileReader, path: Path, dimensions: tuple[int, ...]) -> int:
    """How many dimensions are left once trailing axes of length one are dropped."""
    size = reader.GetSize()
    kept = len(size)
    while kept > min(dimensions) and kept not in dimensions and size[kept - 1] == 1:
        kept -= 1
    if kept in dimensions:
        return kept
    raise InputError(
        "image-not-3d" if dimensions == (3,) else "image-dimensions",
        f"The image {path.name} has {len(size)} dimensions (size "
        f"{' x '.join(map(str, size))}), {' or '.join(map(str, dimensions))} are needed.",
        "Give one 3D volume; split a 4D image into its volumes first.",
    )


def _require_real(reader: sitk.ImageFileReader, path: Path, scalar: bool) -> None:
    complex_types = (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)
    real = reader.GetPixelIDValue() not in complex_types
    if real and not (scalar and reader.GetNumberOfComponents() > 1):
        return
    raise InputError(
        "image-not-scalar",
        f"The image {path.name} has several values a voxel (colour, vector or complex), "
        "one is needed.",
        "Convert it to one grey value a voxel.",
    )


def _without_trailing_axes(image: sitk.Image, kept: int) -> sitk.Image:
    if image.GetDimension() == kept:
        return image
    size = list(image.GetSize()[:kept]) + [0] * (image.GetDimension() - kept)
    strategy = sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOSUBMATRIX
    return sitk.Extract(image, size, [0] * image.GetDimension(), strategy)


def _soundly_placed(image: sitk.Image, path: Path) -> sitk.Image:
    grid = Grid.of(image)
    if not grid.is_sound():
        raise InputError(
            "geometry-singular",
            f"The header of {path.name} has unusable spacing, origin or direction.",
            "Correct the header, or export the image again.",
        )
    return image if image.GetDirection() == grid.direction else grid.placed(image)


def _require_complete_nifti(reader: sitk.ImageFileReader, path: Path) -> None:
    """Refuse a cut NIfTI file, which ITK would read as if the missing voxels were there."""
    voxels = math.prod(reader.GetSize())
    expected = voxels * int(reader.GetMetaData("bitpix")) // 8 + 348
    stored = path.stat().st_size
    if _head(path, 2) != b"\x1f\x8b":
        complete = stored >= expected
    else:
        complete = expected <= stored * _DEFLATE_LIMIT and _inflates_to(path, expected)
    if not complete:
        raise InputError(
            "file-truncated",
            f"The file {path.name} ends before the last of its {voxels} voxels.",
            "Copy or export the image again.",
        )


def _inflates_to(path: Path, expected: int) -> bool:
    """Whether a gzip file holds ``expected`` bytes or more; InputError where it is damaged."""
    count = 0
    try:
        with gzip.open(path, "rb") as stream:
            while count <= expected + _TRAILING_BYTES and (block := stream.read(1 << 20)):
                count += len(block)
    except EOFError:
        return False
    except (OSError, zlib.error) as error:
        raise _damaged(path) from error
    return count >= expected
