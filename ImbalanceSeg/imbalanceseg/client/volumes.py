"""Volumes as bodies of requests, and back."""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import SimpleITK as sitk

from imbalanceseg.nrrd_stream import VolumeHeader

_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_UNDEFINED, _FIRST_ITEM = 0xFFFFFFFF, b"\xfe\xff\x00\xe0"


class RawBody:
    """A NRRD body of known length, so that the engine can tell a cut from an end."""

    def __init__(self, header: VolumeHeader, voxels: Iterator[memoryview]) -> None:
        self._start, self._voxels = header.text("raw"), voxels
        self._length = len(self._start) + header.channel_bytes * header.channels

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes | memoryview]:
        yield self._start
        yield from self._voxels


def zipped_body(
    header: VolumeHeader, voxels: Iterator[memoryview], fields: Mapping[str, str] | None = None
) -> Iterator[bytes]:
    """A NRRD body for slow lines; compressed as it goes."""
    yield header.text("gzip", fields)
    deflate = zlib.compressobj(1, wbits=31)
    for chunk in voxels:
        if packed := deflate.compress(chunk):
            yield packed
    yield deflate.flush()


def image_of(content: bytes) -> sitk.Image:
    """The image in a NRRD file."""
    with tempfile.TemporaryDirectory(prefix="imbalanceseg-") as folder:
        path = Path(folder) / "image.nrrd"
        path.write_bytes(content)
        return sitk.ReadImage(str(path))


def without_pixels(file: bytes) -> bytes:
    """A DICOM file up to its Pixel Data, where that is certain to be its last element.

    Certain is what reaches to the last byte, or begins with an item of compressed data. Everything
    else, and all that is big-endian or deflated, is returned as it is.
    """
    at = len(file)
    while (at := file.rfind(_PIXEL_DATA, 0, at)) >= 0:
        explicit = file[at + 4 : at + 8] in (b"OW\0\0", b"OB\0\0")
        start = at + (12 if explicit else 8)
        if start > len(file):
            continue
        (length,) = struct.unpack("<I", file[start - 4 : start])
        compressed = length == _UNDEFINED and file[start : start + 4] == _FIRST_ITEM
        if start + length == len(file) or (explicit and compressed):
            return file[:at]
    return file
