"""Image files of clients on their way in: NRRD, NIfTI, and compressed NIfTI."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import ExitStack

from imbalanceseg.errors import InputError
from imbalanceseg.server.monai_label.nifti import NiftiStream
from imbalanceseg.server.service import EngineService
from imbalanceseg.server.volume_upload import VolumeUpload

_MAGIC_BYTES = 4
_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20


class ImageSink:
    """Takes an image file piece by piece, and keeps no more of it than its header promises.

    What the file is, is seen from its first bytes; its name plays no part.

    Args:
        service: whose room it takes.
        stack: until whose end the image is kept.

    Attributes:
        upload: the image as the engine takes it.
    """

    def __init__(self, service: EngineService, stack: ExitStack) -> None:
        self.upload: VolumeUpload = stack.enter_context(service.library.receive())
        self._library, self._stack = service.library, stack
        self._promised = False
        self._start = b""
        self._begun = False
        self._inflate: _Inflate | None = None
        self._nifti: NiftiStream | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes.

        Raises:
            InputError, GeometryError: as :meth:`VolumeUpload.feed` and :func:`parse_nifti`.
            OutputError: ``disk-full``.
        """
        if not self._begun:
            piece, self._start = self._start + piece, b""
            if len(piece) < _MAGIC_BYTES:
                self._start = piece
                return
            self._begin(piece)
        for nrrd in self._translated(piece):
            self.upload.feed(nrrd)
            header = self.upload.header
            if header is not None and not self._promised:
                self._promised = True
                room = self._library.room_for(header.channel_bytes * header.channels)
                self._stack.enter_context(room)

    def _begin(self, start: bytes) -> None:
        self._begun = True
        if start.startswith(_GZIP):
            self._inflate = _Inflate()
        if not start.startswith(b"NRRD"):
            self._nifti = NiftiStream()

    def _translated(self, piece: bytes) -> Iterator[bytes]:
        for plain in [piece] if self._inflate is None else self._inflate.feed(piece):
            if self._nifti is None:
                yield plain
            else:
                yield from self._nifti.feed(plain)


class _Inflate:
    """Decompresses gzip a megabyte at a time, so that a bomb is seen before it goes off."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._ended = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        try:
            while piece and not self._ended:
                yield self._member.decompress(piece, _PIECE)
                piece = self._member.unconsumed_tail
                if self._member.eof:
                    # Files may be several members, one after another, or end in padding.
                    piece = self._member.unused_data
                    self._ended = not piece.startswith(_GZIP[: len(piece)])
                    self._member = zlib.decompressobj(wbits=31)
        except zlib.error as error:
            raise InputError(
                "upload-damaged", "The voxels cannot be decompressed.", "Send it again, whole."
            ) from error
