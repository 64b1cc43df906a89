"""Sends what jobs are about: scans, annotations and headers of DICOM series."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import SimpleITK as sitk

from imbalanceseg.client.http import Connection
from imbalanceseg.client.line import Line
from imbalanceseg.client.task import EngineTask
from imbalanceseg.client.volumes import RawBody, without_pixels, zipped_body
from imbalanceseg.nrrd_stream import VolumeHeader, case_id, voxel_chunks
from imbalanceseg.progress import ProgressEvent

Scan: TypeAlias = str | sitk.Image | Sequence[sitk.Image]
"""The address of a case that was uploaded, an image, or one image a channel.

An image is read in the background: it must stay as it is until the task is over.
"""

Painted: TypeAlias = tuple[sitk.Image, Sequence[tuple[int, int]]]
"""Labels on the grid of a scan, and axis and index of the slices that are confirmed."""

Tell: TypeAlias = Callable[[EngineTask, ProgressEvent], None]


class Sender:
    """Sends through a line; every method may be called from any thread.

    Args:
        line: to the engine.
        tell: receives progress; raises :class:`~imbalanceseg.errors.Cancelled` to stop.
    """

    def __init__(self, line: Line, tell: Tell) -> None:
        self._line, self._tell = line, tell

    def case(self, task: EngineTask, scan: Scan) -> str:
        """Send a scan that the engine does not have yet, and return its address."""
        if isinstance(scan, str):
            return scan
        images = [scan] if isinstance(scan, sitk.Image) else list(scan)
        case = case_id(images)
        if not self._line.reached(task, lambda c: c.has(f"/v1/cases/{case}")):
            self._line.reached(task, lambda c: self._send(task, c, case, images))
        return case

    def annotation(self, task: EngineTask, case: str, painted: Painted) -> str:
        """Send labels on the grid of a case, and return their address."""
        image, confirmed = painted
        fields = {"ImbalanceSeg_FormatVersion": "1"}
        fields["ImbalanceSeg_ConfirmedSlices"] = json.dumps([list(one) for one in confirmed])
        body = b"".join(zipped_body(VolumeHeader.of([image]), voxel_chunks([image]), fields))
        path = f"/v1/cases/{case}/annotation"
        response = self._line.reached(task, lambda c: c.call("PUT", path, data=body))
        return str(response.json()["id"])

    def series(self, task: EngineTask, case: str, files: Sequence[Path]) -> None:
        """Send the headers of the DICOM series that a case came from."""
        for number, path in enumerate(files):
            self._tell(task, ProgressEvent("upload", number, len(files), "DICOM headers"))
            self._dicom(task, f"/v1/cases/{case}/dicom/{number}", without_pixels(path.read_bytes()))

    def _dicom(self, task: EngineTask, path: str, body: bytes) -> None:
        self._line.reached(task, lambda c: c.call("PUT", path, data=body))

    def _send(
        self, task: EngineTask, connection: Connection, case: str, images: Sequence[sitk.Image]
    ) -> None:
        header = VolumeHeader.of(images)

        def told(chunks: Iterator[memoryview]) -> Iterator[memoryview]:
            total = header.channel_bytes * header.channels
            sent = 0
            for chunk in chunks:
                self._tell(task, ProgressEvent("upload", sent, total))
                yield chunk
                sent += len(chunk)
            self._tell(task, ProgressEvent("upload", total, total))

        body: Any = RawBody(header, told(voxel_chunks(images)))
        if not connection.is_local:
            body = zipped_body(header, told(voxel_chunks(images)))
        connection.call("PUT", f"/v1/cases/{case}", data=body, seconds=120)
