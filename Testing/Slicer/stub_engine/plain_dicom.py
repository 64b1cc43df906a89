"""A DICOM file of the fewest elements with which a database takes it as a segmentation."""

from __future__ import annotations

import secrets
import struct

import numpy as np

_STUDY = b"\x20\x00\x0d\x00UI"
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_LONG = ("OB", "OW", "UN", "SQ")


def segmentation_file(source: bytes, labels: np.ndarray) -> bytes:
    """A segmentation in the study of a source file; it holds how many voxels are labelled.

    Args:
        source: a DICOM file of the series, explicit little-endian.
        labels: of the scan.
    """
    instance = f"2.25.{secrets.randbits(120)}"
    meta = b"".join(
        [
            _element(0x0002, 0x0001, "OB", b"\0\1"),
            _element(0x0002, 0x0002, "UI", _SEGMENTATION),
            _element(0x0002, 0x0003, "UI", instance),
            _element(0x0002, 0x0010, "UI", _EXPLICIT_LITTLE_ENDIAN),
        ]
    )
    body = b"".join(
        [
            _element(0x0008, 0x0016, "UI", _SEGMENTATION),
            _element(0x0008, 0x0018, "UI", instance),
            _element(0x0008, 0x0060, "CS", "SEG"),
            _element(0x0008, 0x103E, "LO", f"{np.count_nonzero(labels)} labelled voxels"),
            _element(0x0010, 0x0010, "PN", "Stub"),
            _element(0x0010, 0x0020, "LO", "stub"),
            _element(0x0020, 0x000D, "UI", _study_of(source)),
            _element(0x0020, 0x000E, "UI", f"2.25.{secrets.randbits(120)}"),
        ]
    )
    length = _element(0x0002, 0x0000, "UL", struct.pack("<I", len(meta)))
    return b"\0" * 128 + b"DICM" + length + meta + body


def _study_of(source: bytes) -> str:
    at = source.find(_STUDY)
    if at < 0:
        return f"2.25.{secrets.randbits(120)}"
    (length,) = struct.unpack("<H", source[at + 6 : at + 8])
    return source[at + 8 : at + 8 + length].decode("ascii").rstrip("\0 ")


def _element(group: int, number: int, kind: str, value: str | bytes) -> bytes:
    content = value.encode("ascii") if isinstance(value, str) else value
    if len(content) % 2:
        content += b"\0" if kind in ("UI", "OB") else b" "
    start = struct.pack("<HH", group, number) + kind.encode("ascii")
    if kind in _LONG:
        return start + struct.pack("<HI", 0, len(content)) + content
    return start + struct.pack("<H", len(content)) + content
