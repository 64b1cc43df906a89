"""NIfTI-1 as a stream: what clients send becomes NRRD on the way, and labels can be told in it.

Only single files of one volume are taken. The position of voxels is read as ITK reads it, so that a
scan lies where it lies when the engine reads the file itself.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from imbalanceseg.errors import GeometryError, InputError
from imbalanceseg.nrrd_stream import VolumeHeader

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER_BYTES = 348
_VOXELS_AT = 352
_MOST_EXTENSION_BYTES = 1 << 24
_PIXEL_TYPES = {
    2: "uint8",
    4: "int16",
    8: "int32",
    16: "float32",
    64: "float64",
    256: "int8",
    512: "uint16",
    768: "uint32",
}
_CODES = {name: code for code, name in _PIXEL_TYPES.items()}
_ORDERS: tuple[Literal["<", ">"], ...] = ("<", ">")
_SCANNER = 1
_MILLIMETRES = 2
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
_REPAIR = "Send one volume as NRRD, .nii or .nii.gz."


@dataclass(frozen=True)
class NiftiHeader:
    """A header that was read.

    Attributes:
        volume: what the voxels are once they are scaled.
        stored: type of the voxels in the file.
        scale: slope and offset of the voxels, or None.
        voxels_at: position of the first voxel in the file, in bytes.
    """

    volume: VolumeHeader
    stored: np.dtype[np.generic]
    scale: tuple[float, float] | None
    voxels_at: int

    def voxels(self, stored: bytes) -> bytes:
        """Voxels as a NRRD file has them."""
        values = np.frombuffer(stored, self.stored)
        if self.scale is not None:
            slope, offset = self.scale
            values = values * slope + offset
        return values.astype(np.dtype(self.volume.pixel_type).newbyteorder("<")).tobytes()


class NiftiStream:
    """Turns a NIfTI file into a NRRD file, piece by piece.

    Attributes:
        header: None until it has come.
    """

    def __init__(self) -> None:
        self.header: NiftiHeader | None = None
        self._rest = b""
        self._skip = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The next bytes of the NRRD file.

        Raises:
            InputError: as :func:`parse_nifti`.
            GeometryError: as there.
        """
        piece = self._rest + piece
        if self.header is None:
            self._rest = piece
            if len(piece) < HEADER_BYTES:
                return
            self.header = parse_nifti(piece)
            self._skip = self.header.voxels_at
            yield self.header.volume.text("raw")
        skipped = min(self._skip, len(piece))
        self._skip -= skipped
        whole = len(piece) - (len(piece) - skipped) % self.header.stored.itemsize
        self._rest = piece[whole:]
        yield self.header.voxels(piece[skipped:whole])


def parse_nifti(start: bytes) -> NiftiHeader:
    """Read the header of a NIfTI-1 file.

    Args:
        start: at least its first 348 bytes.

    Raises:
        InputError: ``not-nifti``, ``pixel-type``, ``image-not-3d``, ``header-damaged`` or
            ``header-too-long``.
        GeometryError: ``geometry-singular``.
    """
    sizes_of_header = {order: struct.unpack_from(f"{order}i", start)[0] for order in _ORDERS}
    order = next((order for order in _ORDERS if sizes_of_header[order] == HEADER_BYTES), None)
    if order is None or start[344:348] != b"n+1\0":
        raise InputError(
            "not-nifti", "What was sent is neither NRRD nor a single NIfTI-1 file.", _REPAIR
        )

    def numbers(layout: str, at: int) -> tuple[float, ...]:
        return struct.unpack_from(order + layout, start, at)

    dimensions, *sizes = (int(n) for n in numbers("8h", 40))
    if not 3 <= dimensions <= 7 or any(n != 1 for n in sizes[3:dimensions]):
        raise InputError("image-not-3d", "What was sent is not one volume.", _REPAIR)
    if min(sizes[:3]) < 1:
        raise _damaged("a side is empty")
    name = _PIXEL_TYPES.get(int(numbers("h", 70)[0]))
    if name is None:
        raise InputError(
            "pixel-type",
            "The voxels have a type that is not taken.",
            f"Convert them to one of {', '.join(_CODES)}.",
        )
    voxels_at, slope, offset = numbers("3f", 108)
    if not voxels_at >= HEADER_BYTES or voxels_at != int(min(voxels_at, 2**31)):
        raise _damaged("its voxels begin nowhere")
    if voxels_at > _MOST_EXTENSION_BYTES:
        raise InputError("header-too-long", "The header of the NIfTI file does not end.", _REPAIR)
    if start[123] & 7 not in (0, _MILLIMETRES):
        raise _damaged("its lengths are not in mm")
    scale = (slope, offset) if math.isfinite(slope) and slope != 0 else None
    if scale == (1, 0):
        scale = None
    elif scale is not None and not math.isfinite(offset):
        raise _damaged("its scale is no number")
    columns, origin = _position(numbers)
    volume = VolumeHeader(
        name if scale is None else "float32",
        (sizes[0], sizes[1], sizes[2]),
        tuple(float(x) + 0.0 for x in columns.T.ravel()),
        (float(origin[0]), float(origin[1]), float(origin[2])),
    )
    if not volume.grid.is_sound():
        raise GeometryError(
            "geometry-singular",
            "The header has unusable spacing, origin or direction.",
            "Correct the header, or export the image again.",
        )
    return NiftiHeader(volume, np.dtype(name).newbyteorder(order), scale, int(voxels_at))


def nifti_header(volume: VolumeHeader) -> bytes:
    """The header of a file of one volume, up to its voxels, which follow as in NRRD."""
    header = bytearray(_VOXELS_AT)
    pixel_type = np.dtype(volume.pixel_type)
    columns = _RAS_TO_LPS @ np.asarray(volume.columns_mm).reshape(3, 3).T
    origin = _RAS_TO_LPS @ np.asarray(volume.origin_mm)
    struct.pack_into("<i", header, 0, HEADER_BYTES)
    struct.pack_into("<8h", header, 40, 3, *volume.size, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, _CODES[volume.pixel_type], 8 * pixel_type.itemsize)
    struct.pack_into("<4f", header, 76, 1.0, *volume.grid.spacing_mm)
    struct.pack_into("<3f", header, 108, _VOXELS_AT, 1.0, 0.0)
    header[123] = _MILLIMETRES
    struct.pack_into("<2h", header, 252, 0, _SCANNER)
    for row in range(3):
        struct.pack_into("<4f", header, 280 + 16 * row, *columns[row], origin[row])
    header[344:348] = b"n+1\0"
    return bytes(header)


def _position(
    numbers: Callable[[str, int], tuple[float, ...]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps of i, j and k as columns, and voxel (0, 0, 0), in LPS mm."""
    by_quaternion, by_matrix = numbers("2h", 252)
    handed, *spacing = numbers("4f", 76)
    columns: NDArray[np.float64] = np.diag(spacing[:3])
    origin: NDArray[np.float64] = np.zeros(3)
    if by_matrix > 0 and (by_quaternion <= 0 or by_matrix == _SCANNER):
        rows = np.array(numbers("12f", 280)).reshape(3, 4)
        return _RAS_TO_LPS @ rows[:, :3], _RAS_TO_LPS @ rows[:, 3]
    if by_quaternion > 0:
        b, c, d, *offset = numbers("6f", 256)
        steps = np.array(spacing[:3]) * (1, 1, -1 if handed < 0 else 1)
        columns, origin = _rotation(b, c, d) * steps, np.array(offset)
    return _RAS_TO_LPS @ columns, _RAS_TO_LPS @ origin


def _rotation(b: float, c: float, d: float) -> NDArray[np.float64]:
    """Of the quaternion of length 1 with these last three numbers."""
    a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )


def _damaged(why: str) -> InputError:
    return InputError("header-damaged", f"The header of the NIfTI file is damaged: {why}.", _REPAIR)
