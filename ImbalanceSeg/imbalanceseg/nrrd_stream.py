"""Volumes as a stream of bytes: NRRD that is read and written without holding it in memory.

Only what can travel in one body is taken: no file beside the header, no encoding but raw and gzip.
A case is addressed by what :class:`VolumeHeader` and the voxels say, whatever the encoding, so that
both ends of a line find the same address.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from imbalanceseg.errors import GeometryError, InputError
from imbalanceseg.geometry import Grid, require_same_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_HEADER = 64 * 1024
"""Bytes within which the blank line that ends a header must come."""
CHUNK_BYTES = 1 << 20
_LONGEST_SIDE = 65_535
_MOST_CHANNELS = 16
_MOST_DIGITS = 40

_TYPE_NAMES = {
    "uint8": ("uint8", "uchar", "unsigned char", "uint8_t"),
    "int8": ("int8", "signed char", "int8_t"),
    "uint16": ("uint16", "ushort", "unsigned short", "unsigned short int", "uint16_t"),
    "int16": ("int16", "short", "short int", "signed short", "signed short int", "int16_t"),
    "uint32": ("uint32", "uint", "unsigned int", "uint32_t"),
    "int32": ("int32", "int", "signed int", "int32_t"),
    "float32": ("float",),
    "float64": ("double",),
}
_PIXEL_TYPES = {name: ours for ours, names in _TYPE_NAMES.items() for name in names}
_WRITTEN_TYPES = {"float32": "float", "float64": "double"}
_SIGNS = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
}
_ELSEWHERE = ("data file", "datafile", "line skip", "lineskip", "byte skip", "byteskip")
_REPAIR = "Send one NRRD file, raw or gzip, with its voxels in the same file."


@dataclass(frozen=True)
class VolumeHeader:
    """What the voxels that follow are, and where they lie.

    Attributes:
        pixel_type: numpy's name of it, little-endian in the stream.
        size: voxels along (i, j, k).
        columns_mm: the steps of i, j and k in LPS mm, one after another: direction times spacing.
        origin_mm: LPS position of voxel (0, 0, 0).
        channels: volumes that follow one another.
    """

    pixel_type: str
    size: tuple[int, int, int]
    columns_mm: tuple[float, ...]
    origin_mm: tuple[float, float, float]
    channels: int = 1

    @classmethod
    def of(cls, images: Sequence[sitk.Image]) -> VolumeHeader:
        """Of the channels of a scan.

        Raises:
            InputError: ``pixel-type``: several, or one that cannot be sent.
            GeometryError: the images are not 3D, or not on one grid.
        """
        first = images[0]
        scalar = all(image.GetNumberOfComponentsPerPixel() == 1 for image in images)
        types = {sitk.GetArrayViewFromImage(image).dtype.name for image in images}
        if not scalar or len(types) > 1 or not types <= _TYPE_NAMES.keys():
            raise InputError(
                "pixel-type",
                f"Images of the pixel type {' and '.join(sorted(types))} cannot be sent.",
                f"Convert all channels to one of {', '.join(_TYPE_NAMES)}.",
            )
        for other in images[1:]:
            require_same_grid(first, other, ("scan", "further channel"))
        grid = Grid.of(first)
        columns = grid.matrix * np.asarray(grid.spacing_mm)
        return cls(
            types.pop(),
            grid.size,
            tuple(float(x) + 0.0 for x in columns.T.ravel()),
            _triple([x + 0.0 for x in grid.origin_mm]),
            len(images),
        )

    @property
    def channel_bytes(self) -> int:
        """Of one volume."""
        return math.prod(self.size) * np.dtype(self.pixel_type).itemsize

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        columns = np.asarray(self.columns_mm).reshape(3, 3).T
        spacing = np.sqrt((columns**2).sum(0))
        with np.errstate(divide="ignore", invalid="ignore"):
            direction = columns / spacing
        return Grid(self.size, _triple(spacing), self.origin_mm, tuple(direction.ravel()))

    def address(self) -> hashlib._Hash:
        """A SHA-256 that has seen the header and lacks the voxels, channel by channel.

        Geometry counts to a nanometre: files and filters keep no more of it.
        """
        text = f"{self.pixel_type} {' '.join(map(str, self.size))} {self.channels}\n"
        places = (round(x, 6) + 0.0 for x in (*self.columns_mm, *self.origin_mm))
        numbers = struct.pack("<12d", *places)
        return hashlib.sha256(text.encode("ascii") + numbers)

    def text(self, encoding: str, fields: Mapping[str, str] | None = None) -> bytes:
        """The header of a NRRD file up to its blank line.

        Args:
            encoding: ``"raw"`` or ``"gzip"``.
            fields: key/value pairs.
        """
        columns = np.asarray(self.columns_mm).reshape(3, 3)
        steps = [_vector(column) for column in columns]
        sizes, kinds = list(self.size), ["domain"] * 3
        if self.channels > 1:
            sizes, kinds, steps = [*sizes, self.channels], [*kinds, "list"], [*steps, "none"]
        lines = [
            "NRRD0005",
            f"type: {_WRITTEN_TYPES.get(self.pixel_type, self.pixel_type)}",
            f"dimension: {len(sizes)}",
            "space: left-posterior-superior",
            f"sizes: {' '.join(map(str, sizes))}",
            f"space directions: {' '.join(steps)}",
            f"kinds: {' '.join(kinds)}",
            "endian: little",
            f"encoding: {encoding}",
            f"space origin: {_vector(self.origin_mm)}",
            *(f"{key}:={value}" for key, value in (fields or {}).items()),
        ]
        return ("\n".join(lines) + "\n\n").encode("utf-8")


@dataclass(frozen=True)
class ParsedHeader:
    """A header that was read.

    Attributes:
        volume: what follows.
        encoding: ``"raw"`` or ``"gzip"``.
        fields: key/value pairs, as they stood there.
        length: bytes of the header with its blank line.
    """

    volume: VolumeHeader
    encoding: str
    fields: Mapping[str, str]
    length: int


def parse_header(start: bytes) -> ParsedHeader | None:
    """Read the header of a NRRD file; nothing in it is opened, imported or run.

    Args:
        start: the first bytes of the file.

    Returns:
        None where the header has not ended yet.

    Raises:
        InputError: ``not-nrrd``, ``header-too-long``, ``header-damaged``, ``pixel-type``,
            ``image-not-3d``, ``voxels-elsewhere`` or ``encoding-unknown``.
        GeometryError: ``geometry-singular``.
    """
    if start[:4] != b"NRRD"[: len(start[:4])]:
        raise InputError("not-nrrd", "What was sent is no NRRD file.", _REPAIR)
    ends = [(at, len(mark)) for mark in (b"\n\n", b"\r\n\r\n") if (at := start.find(mark)) >= 0]
    if not ends:
        if len(start) >= LARGEST_HEADER:
            raise InputError(
                "header-too-long", "The header of the NRRD file does not end.", _REPAIR
            )
        return None
    at, width = min(ends)
    values, fields = _lines(start[:at].decode("utf-8", "replace"))
    encoding = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}.get(values.get("encoding", "").lower())
    if encoding is None:
        raise InputError(
            "encoding-unknown", "The voxels are encoded in a way that is not taken.", _REPAIR
        )
    return ParsedHeader(_volume(values), encoding, fields, at + width)


def array_of(image: sitk.Image) -> NDArray[np.generic]:
    """The voxels of an image ``[z, y, x]``, a view where that is possible."""
    array = np.asarray(sitk.GetArrayViewFromImage(image))
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))


def voxel_chunks(images: Iterable[sitk.Image]) -> Iterator[memoryview]:
    """The voxels of channels, one after another, in pieces of a megabyte."""
    for image in images:
        whole = array_of(image).data.cast("B")
        for start in range(0, len(whole), CHUNK_BYTES):
            yield whole[start : start + CHUNK_BYTES]


def case_id(images: Sequence[sitk.Image]) -> str:
    """The address of a scan: SHA-256 of its voxels and geometry, in hexadecimal digits.

    Raises:
        InputError, GeometryError: as :meth:`VolumeHeader.of`.
    """
    digest = VolumeHeader.of(images).address()
    for chunk in voxel_chunks(images):
        digest.update(chunk)
    return digest.hexdigest()


def _lines(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Fields that say how to read the voxels, and key/value pairs."""
    values: dict[str, str] = {}
    fields: dict[str, str] = {}
    for line in text.splitlines()[1:]:
        if line.startswith("#"):
            continue
        key, pair, value = line.partition(":=")
        if pair and ": " not in key:
            fields[key.strip()] = value.strip()
            continue
        name, colon, value = line.partition(":")
        if not colon or name.strip().lower() in values:
            raise _damaged("a line is no field, or comes twice")
        values[name.strip().lower()] = value.strip()
    for name in _ELSEWHERE:
        if values.get(name, "0") != "0":
            raise InputError(
                "voxels-elsewhere", "The header says that its voxels lie somewhere else.", _REPAIR
            )
    return values, fields


def _volume(values: Mapping[str, str]) -> VolumeHeader:
    pixel_type = _PIXEL_TYPES.get(values.get("type", "").lower())
    if pixel_type is None:
        raise InputError(
            "pixel-type",
            "The voxels have a type that is not taken.",
            f"Convert them to one of {', '.join(_TYPE_NAMES)}.",
        )
    if np.dtype(pixel_type).itemsize > 1 and values.get("endian", "").lower() != "little":
        raise _damaged("its voxels are not little-endian")
    sizes = [_whole(word) for word in values.get("sizes", "").split()]
    if len(sizes) not in (3, 4) or values.get("dimension") != str(len(sizes)):
        raise InputError(
            "image-not-3d", "What was sent is not one volume, or several in a list.", _REPAIR
        )
    channels = sizes[3] if len(sizes) == 4 else 1
    if not all(1 <= n <= _LONGEST_SIDE for n in sizes) or channels > _MOST_CHANNELS:
        raise _damaged("a side is empty or too long")
    signs = _SIGNS.get(values.get("space", "").lower())
    if signs is None:
        raise _damaged("its space is neither left-posterior-superior nor right-anterior-superior")
    directions = re.findall(r"\([^()]*\)|none", values.get("space directions", ""))
    if directions[3:] != ["none"] * (len(sizes) - 3):
        raise _damaged("its space directions do not fit its axes")
    columns = [_numbers(word, signs) for word in directions[:3]]
    if len(columns) != 3:
        raise _damaged("its space directions are missing")
    origin = _numbers(values.get("space origin", ""), signs)
    volume = VolumeHeader(
        pixel_type,
        (sizes[0], sizes[1], sizes[2]),
        tuple(x for column in columns for x in column),
        origin,
        channels,
    )
    if not volume.grid.is_sound():
        raise GeometryError(
            "geometry-singular",
            "The header has unusable spacing, origin or direction.",
            "Correct the header, or export the image again.",
        )
    return volume


def _whole(word: str) -> int:
    # Python converts thousands of digits, slowly.
    if not word.isascii() or not word.isdigit() or len(word) > 9:
        raise _damaged("a size is no whole number")
    return int(word)


def _numbers(word: str, signs: tuple[int, int, int]) -> tuple[float, float, float]:
    parts = word.strip("()").split(",")
    try:
        if len(parts) != 3 or any(len(part) > _MOST_DIGITS for part in parts):
            raise ValueError
        return _triple([float(part) * sign + 0.0 for part, sign in zip(parts, signs, strict=True)])
    except ValueError:
        raise _damaged("a direction or the origin is no triple of numbers") from None


def _triple(values: Iterable[float]) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _vector(values: Iterable[float]) -> str:
    return "(" + ",".join(repr(float(x)) for x in values) + ")"


def _damaged(why: str) -> InputError:
    return InputError("header-damaged", f"The header of the NRRD file is damaged: {why}.", _REPAIR)
