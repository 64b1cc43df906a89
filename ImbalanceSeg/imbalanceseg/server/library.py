"""Cases and annotations coming in, and the room they take."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from imbalanceseg.errors import GeometryError, InputError, OutputError
from imbalanceseg.nrrd_stream import ParsedHeader, parse_header
from imbalanceseg.server.limits import GIB, Limits
from imbalanceseg.server.records import StoredAnnotation, StoredCase
from imbalanceseg.server.store import Store
from imbalanceseg.server.volume_upload import VolumeUpload

ANNOTATION_FIELDS = (
    "ImbalanceSeg_FormatVersion",
    "ImbalanceSeg_ConfirmedSlices",
    "ImbalanceSeg_Classes",
)
"""Of the header of an annotation; see :mod:`imbalanceseg.annotation.files`."""

_DISK_MARGIN = 2**28


class Library:
    """What was sent, and what must go when there is no room; safe to use from any thread."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store, self._limits = store, limits
        self._lock = threading.Lock()
        self._uploads = 0
        self._promised = 0

    def case(self, case: str) -> StoredCase:
        """A case that is here; it counts as used.

        Raises:
            InputError: ``case-unknown``.
        """
        found = self._store.case(case)
        if found is None:
            raise InputError(
                "case-unknown", "There is no case of this address here.", "Send the scan first."
            )
        self._store.touch("cases", case)
        return found

    @contextmanager
    def receive(self, as_sent: bool = False) -> Iterator[VolumeUpload]:
        """Somewhere to put a volume that is being sent; gone at the end unless it was kept.

        Args:
            as_sent: as an annotation; otherwise as a case.

        Raises:
            InputError: ``uploads-busy``.
        """
        with self._lock:
            if self._uploads >= self._limits.uploads:
                raise InputError(
                    "uploads-busy",
                    f"{self._uploads} uploads are going on already.",
                    "Try again in a moment.",
                )
            self._uploads += 1
        fields = ANNOTATION_FIELDS if as_sent else ()
        folder = self._store.work / f"upload-{secrets.token_hex(8)}"
        upload = VolumeUpload(folder, self._limits, as_sent, fields)
        try:
            yield upload
        finally:
            upload.discard()
            with self._lock:
                self._uploads -= 1

    def keep_case(self, upload: VolumeUpload, expected: str | None) -> StoredCase:
        """Take an upload in as a case.

        Args:
            upload: that is complete.
            expected: the address it must have; None takes any.

        Raises:
            InputError: ``upload-truncated`` or ``address-mismatch``.
        """
        received = upload.finish()
        if expected is not None and received.address != expected:
            raise InputError(
                "address-mismatch",
                "What was sent has another address than was said.",
                "Send it again; if that happens again, the address was computed in another way.",
            )
        case = StoredCase(
            received.address,
            received.header.channels,
            received.header.size,
            received.header.pixel_type,
            received.bytes,
            time.time(),
        )
        self._store.add_case(case, upload.folder)
        return case

    def keep_annotation(self, case: str, upload: VolumeUpload) -> StoredAnnotation:
        """Take an upload in as an annotation, or other labels, of a case.

        Raises:
            InputError: ``upload-truncated``, ``annotation-not-labels`` or ``case-unknown``.
            GeometryError: ``grid-mismatch``.
        """
        self.case(case)
        received = upload.finish()
        header = received.header
        if header.pixel_type.startswith("float") or header.channels > 1:
            raise InputError(
                "annotation-not-labels",
                "The annotation holds values that are not whole numbers from 0 to 255.",
                "Give 0 for background, 1 and up for classes and 255 for what is not labelled.",
            )
        scan = self._header_of(case).volume.grid
        if not header.grid.same_as(scan):
            raise GeometryError(
                "grid-mismatch",
                "The annotation does not lie on the grid of the case: "
                f"{header.grid.difference_to(scan)}.",
                "Give the annotation that was painted on this scan.",
            )
        annotation = StoredAnnotation(received.body, case, received.bytes, time.time())
        self._store.add_annotation(annotation, upload.folder / "body.nrrd")
        return annotation

    def annotation(self, case: str, annotation: str | None) -> StoredAnnotation:
        """An annotation of a case, the latest when None.

        Raises:
            InputError: ``annotation-unknown``.
        """
        for one in self._store.annotations(case):
            if annotation in (None, one.id):
                return one
        raise InputError(
            "annotation-unknown",
            "There is no such annotation of this case." if annotation else "Nothing was painted.",
            "Send the annotation first.",
        )

    @contextmanager
    def receive_dicom(self, case: str, number: int) -> Iterator[IO[bytes]]:
        """A file for one slice of the series that a case came from; whole, or without its pixels.

        Raises:
            InputError: ``case-unknown``, ``dicom-too-many`` or ``not-dicom``.
            OutputError: ``disk-full``.
        """
        self.case(case)
        if not 0 <= number < self._limits.dicom_files:
            raise InputError(
                "dicom-too-many",
                f"A series has at most {self._limits.dicom_files} files here.",
                "Number the files from 0.",
            )
        temporary = self._store.work / f"dicom-{secrets.token_hex(8)}"
        try:
            with temporary.open("wb") as stream:
                yield stream
            with temporary.open("rb") as stream:
                if stream.read(132)[128:] != b"DICM":
                    raise InputError("not-dicom", "What was sent is no DICOM file.")
            folder = self._store.dicom_folder(case)
            file = folder / f"{number:05d}.dcm"
            size = temporary.stat().st_size
            with self.room_for(size):
                # Room may have been made with this very case.
                self.case(case)
                folder.mkdir(exist_ok=True, mode=0o700)
                before = file.stat().st_size if file.exists() else 0
                temporary.replace(file)
                self._store.grow_case(case, size - before)
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def room_for(self, size: int) -> Iterator[None]:
        """Promise room for so many bytes while the block runs; the least used goes for it.

        Raises:
            OutputError: ``disk-full``.
        """
        with self._lock:
            self._make_room(size)
            self._promised += size
        try:
            yield
        finally:
            with self._lock:
                self._promised -= size

    def _make_room(self, size: int) -> None:
        candidates = iter(self._store.least_recently_used())
        while not self._fits(size):
            for place, identifier, _ in candidates:
                if place == "cases":
                    self._store.drop_case(identifier)
                else:
                    self._store.drop_results(identifier)
                break
            else:
                raise OutputError(
                    "disk-full",
                    f"There is no room for another {size / GIB:.2f} GiB: annotations and adapted "
                    "models are never removed without being told.",
                    "Delete what is not needed any more, or give the engine more disk.",
                )

    def _fits(self, size: int) -> bool:
        wanted = self._promised + size
        free = shutil.disk_usage(self._store.folder).free
        within = self._store.used_bytes() + wanted <= self._limits.disk_bytes
        return within and wanted + _DISK_MARGIN <= free

    def _header_of(self, case: str) -> ParsedHeader:
        return header_of_file(self._store.case_folder(case) / "channel_0.nrrd")


def header_of_file(path: Path) -> ParsedHeader:
    """The header of a file that this server has written."""
    with path.open("rb") as stream:
        parsed = parse_header(stream.read(4096))
    assert parsed is not None
    return parsed
