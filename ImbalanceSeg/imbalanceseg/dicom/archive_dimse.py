"""Archives over DIMSE: C-FIND to find, C-GET or C-MOVE to fetch, C-STORE to send."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom import uid as uids
from pynetdicom import AE, build_role, evt, sop_class
from pynetdicom.presentation import build_context

from imbalanceseg.dicom.archive import (
    Archive,
    ArchiveError,
    ArchiveUnreachableError,
    Keep,
    RemoteSeries,
    SeriesQuery,
    remote_series,
)
from imbalanceseg.dicom.archive_address import refused
from imbalanceseg.dicom_tags import tag_text
from imbalanceseg.reading import quiet_readers

if TYPE_CHECKING:
    from imbalanceseg.dicom.archive_address import Entrance

_PENDING, _SUCCESS = {0xFF00, 0xFF01}, 0x0000
_WARNINGS = {0xB000, 0xB006, 0xB007}
_OUT_OF_RESOURCES = {0xA700, 0xA701, 0xA702}
_AT_ONCE = 100
_FIND, _GET, _MOVE = (
    str(getattr(sop_class, f"StudyRootQueryRetrieveInformationModel{service}"))
    for service in ("Find", "Get", "Move")
)
_UNCOMPRESSED = [uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian]
_OF_SEGMENTATIONS = [uids.RLELossless, uids.JPEG2000Lossless, uids.JPEGLSLossless]
_OF_IMAGES = [
    *_OF_SEGMENTATIONS,
    uids.JPEGLosslessSV1,
    uids.JPEGLossless,
    uids.JPEGBaseline8Bit,
    uids.JPEG2000,
]
_RECEIVED = {
    "CTImageStorage": _OF_IMAGES,
    "MRImageStorage": _OF_IMAGES,
    "EnhancedCTImageStorage": _OF_IMAGES,
    "EnhancedMRImageStorage": _OF_IMAGES,
    "LegacyConvertedEnhancedCTImageStorage": _OF_IMAGES,
    "LegacyConvertedEnhancedMRImageStorage": _OF_IMAGES,
    "PositronEmissionTomographyImageStorage": _OF_IMAGES,
    "EnhancedPETImageStorage": _OF_IMAGES,
    "SecondaryCaptureImageStorage": _OF_IMAGES,
    "SegmentationStorage": _OF_SEGMENTATIONS,
    "LabelMapSegmentationStorage": _OF_SEGMENTATIONS,
    "EnhancedSRStorage": [],
    "ComprehensiveSRStorage": [],
    "Comprehensive3DSRStorage": [],
}
"""Compressed encodings in which each kind of object is taken, besides the uncompressed ones."""


class DimseArchive(Archive):
    """See :class:`~imbalanceseg.dicom.archive.Archive`.

    Args:
        host: name or address.
        port: of the archive.
        title: application entity title of the archive.
        entrance: own title, certificates, and whether to be sent to (C-MOVE).
        protected: over TLS.
    """

    def __init__(
        self, host: str, port: int, title: str, entrance: Entrance, protected: bool
    ) -> None:
        self._host, self._port, self._title, self._entrance = host, port, title, entrance
        self._tls = (entrance.tls(), host) if protected else None

    def find(self, query: SeriesQuery) -> list[RemoteSeries]:
        """C-FIND of studies, then of the series of each: not every archive searches across."""
        study = pydicom.Dataset()
        study.QueryRetrieveLevel = "STUDY"
        study.StudyInstanceUID = query.study_uid
        study.PatientID, study.StudyDate = query.patient_id, query.date
        study.ModalitiesInStudy = query.modality
        found = []
        with self._find_line() as line:
            # All of them first: a line carries one query at a time.
            for one in list(_answers(line, study)):
                series = pydicom.Dataset()
                series.QueryRetrieveLevel = "SERIES"
                series.StudyInstanceUID = one.get("StudyInstanceUID", "")
                series.SeriesInstanceUID = query.series_uid
                series.Modality = query.modality
                series.SeriesDescription = query.description
                series.NumberOfSeriesRelatedInstances = None
                found += [remote_series(item, one) for item in _answers(line, series)]
        return found

    def instances(self, study_uid: str, series_uid: str) -> list[str]:
        """C-FIND of instances."""
        image = pydicom.Dataset()
        image.QueryRetrieveLevel = "IMAGE"
        image.StudyInstanceUID, image.SeriesInstanceUID = study_uid, series_uid
        image.SOPInstanceUID = ""
        with self._find_line() as line:
            return [tag_text(item, "SOPInstanceUID") for item in _answers(line, image)]

    def fetch(self, series: RemoteSeries, wanted: Sequence[str], keep: Keep) -> None:
        """C-GET, or C-MOVE to a port that listens meanwhile."""
        failures: list[BaseException] = []

        def received(event: Any) -> int:
            try:
                instance = event.dataset
                instance.file_meta = event.file_meta
                keep(instance)
            except Exception as error:  # the network's thread would swallow it
                failures.append(error)
                return 0xA700
            return _SUCCESS

        handlers = [(evt.EVT_C_STORE, received)]
        if self._entrance.listen_port is None:
            roles = [build_role(_kind(name), scp_role=True) for name in _RECEIVED]
            with self._line([build_context(_GET), *_receiving()], handlers, roles) as line:
                self._ask(line, _GET, series, wanted, failures)
            return
        with (
            self._listening(self._entrance.listen_port, handlers),
            self._line([build_context(_MOVE)]) as line,
        ):
            self._ask(line, _MOVE, series, wanted, failures)

    def store(self, path: Path) -> None:
        """C-STORE, in the encoding of the file or not at all."""
        with quiet_readers():
            instance = pydicom.dcmread(path)
        syntax = instance.file_meta.TransferSyntaxUID
        context = build_context(instance.SOPClassUID, [syntax])
        with self._line([context]) as line:
            try:
                status = line.send_c_store(instance)
            except ValueError as error:
                raise refused(f"store {path.name}", error) from error
        code = _code(status)
        if code in _OUT_OF_RESOURCES:
            raise ArchiveUnreachableError(
                "archive-busy", f"The archive has no room for {path.name} now.", "Try again later."
            )
        if code != _SUCCESS and code not in _WARNINGS:
            raise refused(f"store {path.name}", f"status {code:#06x}")

    def _ask(
        self,
        line: Any,
        model: str,
        series: RemoteSeries,
        wanted: Sequence[str],
        failures: list[BaseException],
    ) -> None:
        for start in range(0, len(wanted), _AT_ONCE):
            query = pydicom.Dataset()
            query.QueryRetrieveLevel = "IMAGE"
            query.StudyInstanceUID = series.study_uid
            query.SeriesInstanceUID = series.series_uid
            query.SOPInstanceUID = list(wanted[start : start + _AT_ONCE])
            if model == _GET:
                answers = line.send_c_get(query, model)
            else:
                answers = line.send_c_move(query, self._entrance.title, model)
            code = _SUCCESS
            for status, _ in answers:
                code = _code(status)
            if failures:
                raise failures[0]
            if code not in (_SUCCESS, *_WARNINGS):
                raise refused("give a series", f"status {code:#06x}")

    @contextmanager
    def _listening(self, port: int, handlers: list[Any]) -> Iterator[None]:
        receiver = self._entity()
        receiver.supported_contexts = [
            build_context(_kind(name), [*_UNCOMPRESSED, *more]) for name, more in _RECEIVED.items()
        ]
        try:
            server = receiver.start_server(("", port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise ArchiveError(
                "archive-port",
                f"Port {port} cannot be listened on ({error.strerror or 'unknown'}).",
                "Choose the port that the archive has been told of.",
            ) from error
        try:
            yield
        finally:
            assert server is not None
            server.shutdown()

    def _find_line(self) -> Any:
        return self._line([build_context(_FIND)])

    @contextmanager
    def _line(
        self, contexts: list[Any], handlers: list[Any] | None = None, roles: list[Any] | None = None
    ) -> Iterator[Any]:
        entity = self._entity()
        line = entity.associate(
            self._host,
            self._port,
            contexts=contexts,
            ae_title=self._title,
            ext_neg=roles,
            tls_args=self._tls,
            evt_handlers=handlers,
        )
        if line.is_rejected:
            raise refused("talk to us", f"as {self._entrance.title}, to {self._title}")
        if not line.is_established:
            accepted = getattr(line.acceptor.primitive, "result", None) == 0
            if accepted:
                raise refused("do that", "it offers no such service")
            raise ArchiveUnreachableError(
                "archive-unreachable",
                f"The archive {self._title} at {self._host}:{self._port} cannot be reached.",
                "Check address, port and network, and whether it wants TLS.",
            )
        try:
            yield line
        finally:
            if line.is_established:
                line.release()

    def _entity(self) -> AE:
        entity = AE(self._entrance.title)
        seconds = self._entrance.timeout_s
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = seconds
        entity.connection_timeout = seconds
        return entity


def _answers(line: Any, query: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    for status, found in line.send_c_find(query, _FIND):
        code = _code(status)
        if code in _PENDING and found is not None:
            yield found
        elif code != _SUCCESS:
            raise refused("find series", f"status {code:#06x}")


def _code(status: pydicom.Dataset) -> int:
    """A status without a code is that of a line that broke."""
    if "Status" not in status:
        raise ArchiveUnreachableError(
            "archive-unreachable", "The line to the archive broke.", "Try again."
        )
    return int(status.Status)


def _kind(name: str) -> str:
    return str(getattr(sop_class, name))


def _receiving() -> list[Any]:
    """One context an encoding: of several in one, an archive picks one for all its files."""
    contexts = []
    for name, more in _RECEIVED.items():
        contexts += [build_context(_kind(name), _UNCOMPRESSED)]
        contexts += [build_context(_kind(name), [syntax]) for syntax in more]
    return contexts
