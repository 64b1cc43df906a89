"""One volume on its way in: checked, decompressed and put on disk while it arrives."""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from imbalanceseg.errors import InputError
from imbalanceseg.nrrd_stream import VolumeHeader, parse_header
from imbalanceseg.server.limits import GIB, Limits

_SEND_AGAIN = "Send it again, whole."
_PIECE = 1 << 20


@dataclass(frozen=True)
class Received:
    """A volume that has arrived.

    Attributes:
        header: of it.
        address: SHA-256 of voxels and geometry, see :mod:`imbalanceseg.nrrd_stream`.
        fields: key/value pairs of its header.
        body: SHA-256 of what was sent.
        bytes: on disk.
    """

    header: VolumeHeader
    address: str
    fields: Mapping[str, str]
    body: str
    bytes: int


class VolumeUpload:
    """Takes a NRRD body piece by piece; never holds, and never writes, more than its header says.

    Args:
        folder: made for it; receives ``channel_0.nrrd``, ``channel_1.nrrd``, ..., or ``body.nrrd``.
        limits: ``upload_bytes`` and ``volume_bytes`` are used.
        as_sent: keep the voxels in the encoding that they came in.
        fields: keys of the header that are kept; others may name the patient.
    """

    def __init__(
        self, folder: Path, limits: Limits, as_sent: bool = False, fields: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder
        self.header: VolumeHeader | None = None
        self._limits, self._as_sent, self._kept_fields = limits, as_sent, fields
        self._start = b""
        self._sent = self._decoded = self._written = 0
        self._body = hashlib.sha256()
        self._stream: IO[bytes] | None = None
        self._channel = 0
        self._inflate: zlib._Decompress | None = None
        self._fields: Mapping[str, str] = {}
        folder.mkdir(mode=0o700)

    def feed(self, piece: bytes) -> None:
        """Take the next bytes.

        Raises:
            InputError: ``upload-too-large``, ``volume-too-large``, ``upload-too-long``,
                ``upload-damaged``, or as :func:`~imbalanceseg.nrrd_stream.parse_header`.
            GeometryError: as there.
            OSError: the disk is full.
        """
        self._sent += len(piece)
        if self._sent > self._limits.upload_bytes:
            raise InputError(
                "upload-too-large",
                f"More than {self._limits.upload_bytes / GIB:.3g} GiB were sent.",
                "Crop or resample the image, or ask for a higher limit of uploads.",
            )
        self._body.update(piece)
        if self.header is None:
            self._start += piece
            parsed = parse_header(self._start)
            if parsed is None:
                return
            self._begin(parsed.volume, parsed.encoding, parsed.fields)
            piece, self._start = self._start[parsed.length :], b""
        if self._as_sent:
            assert self._stream is not None
            self._stream.write(piece)
            self._written += len(piece)
        for voxels in self._voxels(piece):
            self._take(voxels)

    def finish(self) -> Received:
        """Say that everything was sent.

        Raises:
            InputError: ``upload-truncated``.
            OSError: the disk is full.
        """
        header = self.header
        if header is None or self._decoded < header.channel_bytes * header.channels:
            raise InputError(
                "upload-truncated", "The image ends before the last of its voxels.", _SEND_AGAIN
            )
        self._close()
        return Received(
            header, self._address.hexdigest(), self._fields, self._body.hexdigest(), self._written
        )

    def discard(self) -> None:
        """Leave nothing behind."""
        if self._stream is not None:
            self._stream.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _begin(self, header: VolumeHeader, encoding: str, fields: Mapping[str, str]) -> None:
        if header.channel_bytes * header.channels > self._limits.volume_bytes:
            raise InputError(
                "volume-too-large",
                f"The image takes {header.channel_bytes * header.channels / GIB:.3g} GiB, "
                f"{self._limits.volume_bytes / GIB:.3g} GiB are allowed.",
                "Crop or resample the image, or ask for a higher limit of volumes.",
            )
        self.header, self._address = header, header.address()
        self._fields = {key: fields[key] for key in self._kept_fields if key in fields}
        if encoding == "gzip":
            self._inflate = zlib.decompressobj(wbits=31)
        if self._as_sent:
            self._open("body.nrrd", header.text(encoding, self._fields))
        else:
            self._open_channel()

    def _voxels(self, piece: bytes) -> Iterator[bytes]:
        if self._inflate is None:
            yield piece
            return
        # What a small body unfolds to is looked at a megabyte at a time.
        while piece and not self._inflate.eof:
            try:
                voxels = self._inflate.decompress(piece, _PIECE)
            except zlib.error as error:
                raise InputError(
                    "upload-damaged", "The voxels cannot be decompressed.", _SEND_AGAIN
                ) from error
            piece = self._inflate.unconsumed_tail
            yield voxels

    def _take(self, voxels: bytes) -> None:
        header = self.header
        assert header is not None
        if self._decoded + len(voxels) > header.channel_bytes * header.channels:
            raise InputError(
                "upload-too-long",
                "More voxels were sent than the header says.",
                "Correct the sizes in the header.",
            )
        self._address.update(voxels)
        if self._as_sent:
            self._decoded += len(voxels)
            return
        rest = memoryview(voxels)
        while rest:
            assert self._stream is not None
            room = (self._channel + 1) * header.channel_bytes - self._decoded
            self._stream.write(rest[:room])
            self._written += len(rest[:room])
            self._decoded += len(rest[:room])
            rest = rest[room:]
            if rest:
                self._close()
                self._channel += 1
                self._open_channel()

    def _open_channel(self) -> None:
        assert self.header is not None
        one = VolumeHeader(
            self.header.pixel_type, self.header.size, self.header.columns_mm, self.header.origin_mm
        )
        self._open(f"channel_{self._channel}.nrrd", one.text("raw"))

    def _open(self, name: str, header: bytes) -> None:
        self._stream = open(self.folder / name, "wb")  # noqa: SIM115
        self._stream.write(header)
        self._written += len(header)

    def _close(self) -> None:
        assert self._stream is not None
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
