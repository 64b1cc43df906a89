"""Archives (PACS): find series, fetch them, send files to them, over a line that may break.

Two ways lead there, DICOMweb and DIMSE; what both share stands here.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from imbalanceseg.atomic import atomic_path
from imbalanceseg.dicom_tags import tag_text
from imbalanceseg.errors import ImbalanceSegError, InputError
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress
from imbalanceseg.reading import printable, quiet_readers

if TYPE_CHECKING:
    import pydicom

T = TypeVar("T")
Keep = Callable[["pydicom.Dataset"], None]

ATTEMPTS = 4
_FIRST_WAIT_S = 0.5
_UID = re.compile(r"[0-9.]{1,64}")


class ArchiveError(ImbalanceSegError):
    """An archive cannot be reached, or does not do what it is asked for."""


class ArchiveUnreachableError(ArchiveError):
    """The line to an archive is broken, or it is too busy: worth another try."""


@dataclass(frozen=True)
class SeriesQuery:
    """What is looked for; empty fields match all. ``*`` and ``?`` stand for any characters.

    Attributes:
        patient_id: Patient ID.
        modality: for example ``"CT"``.
        description: Series Description.
        date: of the study, ``20260131`` or a range ``20260101-20260131``.
        study_uid: Study Instance UID.
        series_uid: Series Instance UID.
    """

    patient_id: str = ""
    modality: str = ""
    description: str = ""
    date: str = ""
    study_uid: str = ""
    series_uid: str = ""


@dataclass(frozen=True)
class RemoteSeries:
    """A series of an archive.

    Attributes:
        study_uid: of its study.
        series_uid: its own.
        modality: for example ``"CT"``.
        description: Series Description.
        date: of the study.
        patient_id: Patient ID.
        instances: how many it has; None where the archive does not say.
    """

    study_uid: str
    series_uid: str
    modality: str
    description: str
    date: str
    patient_id: str
    instances: int | None = None


@dataclass(frozen=True)
class Transferred:
    """What a transfer did.

    Attributes:
        done: files fetched or sent.
        before: those that had been there already.
    """

    done: int
    before: int


class Archive(ABC):
    """A connection to an archive; every method raises ArchiveError."""

    @abstractmethod
    def find(self, query: SeriesQuery) -> list[RemoteSeries]:
        """Series that match."""

    @abstractmethod
    def instances(self, study_uid: str, series_uid: str) -> list[str]:
        """SOP Instance UIDs of a series."""

    @abstractmethod
    def fetch(self, series: RemoteSeries, wanted: Sequence[str], keep: Keep) -> None:
        """Hand each of the wanted instances to ``keep`` as it arrives."""

    @abstractmethod
    def store(self, path: Path) -> None:
        """Send one DICOM file."""


def find_series(archive: Archive, query: SeriesQuery) -> list[RemoteSeries]:
    """Series of an archive, the newest study first.

    Raises:
        ArchiveError: it cannot be reached, or refuses.
    """
    found = patiently(lambda: archive.find(query))
    return sorted(found, key=lambda s: (s.date, s.study_uid, s.series_uid), reverse=True)


def get_series(
    archive: Archive,
    series: RemoteSeries,
    folder: Path,
    progress: ProgressCallback = ignore_progress,
) -> Transferred:
    """Fetch a series into a folder, one file an instance, named by its UID.

    Files that are there already are not fetched again, so the same call goes on after an
    interruption. A file appears whole or not at all.

    Args:
        archive: where it is.
        series: see :func:`find_series`.
        folder: existing folder.
        progress: receives an event an instance.

    Raises:
        ArchiveError: ``archive-incomplete`` when instances are still missing in the end, or the
            archive cannot be reached or refuses.
        OutputError: a file cannot be written.
    """
    wanted = patiently(lambda: archive.instances(series.study_uid, series.series_uid))
    strange = next((uid for uid in wanted if not _UID.fullmatch(uid)), None)
    if strange is not None:
        raise ArchiveError(
            "archive-answer",
            f"The archive names an instance {printable(strange)!r}, which is no DICOM UID.",
            "Ask who runs the archive.",
        )
    before = len([uid for uid in wanted if _file(folder, uid).is_file()])

    def missing() -> list[str]:
        return [uid for uid in wanted if not _file(folder, uid).is_file()]

    def keep(instance: pydicom.Dataset) -> None:
        uid = str(instance.get("SOPInstanceUID", ""))
        # An archive may send more than it was asked for, and nothing is written under such a name.
        if uid not in expected:
            return
        with atomic_path(_file(folder, uid)) as path, quiet_readers():
            instance.save_as(path, enforce_file_format=True)
        progress(ProgressEvent("get", len(wanted) - len(missing()), len(wanted)))

    expected = set(wanted)
    progress(ProgressEvent("get", before, len(wanted)))
    if missing():
        patiently(lambda: archive.fetch(series, missing(), keep))
    if missing():
        raise ArchiveError(
            "archive-incomplete",
            f"The archive did not give {len(missing())} of {len(wanted)} instances of the series.",
            "Run it again: what has arrived is kept.",
        )
    return Transferred(len(wanted) - before, before)


def send_files(
    archive: Archive, files: Sequence[Path], progress: ProgressCallback = ignore_progress
) -> Transferred:
    """Send DICOM files; those that the archive holds already are left out.

    So the same call goes on after an interruption.

    Raises:
        InputError: ``dicom-unreadable`` for a file that is no DICOM file; nothing is sent then.
        ArchiveError: the archive cannot be reached, or refuses a file.
    """
    headers = [(path, _identifiers(path)) for path in files]
    held: dict[tuple[str, str], set[str]] = {}
    done = 0
    for number, (path, (study, series, instance)) in enumerate(headers):
        progress(ProgressEvent("send", number, len(files), path.name))
        if (study, series) not in held:
            there = patiently(lambda s=study, r=series: archive.instances(s, r))  # type: ignore[misc]
            held[study, series] = set(there)
        if instance not in held[study, series]:
            patiently(lambda p=path: archive.store(p))  # type: ignore[misc]
            done += 1
    progress(ProgressEvent("send", len(files), len(files)))
    return Transferred(done, len(files) - done)


def dicom_files(paths: Iterable[Path]) -> list[Path]:
    """Files, and those of folders that begin as DICOM files do, in a fixed order.

    Raises:
        InputError: ``file-missing``, or ``no-dicom`` where nothing is found.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += [p for p in sorted(path.rglob("*")) if p.is_file() and _begins_as_dicom(p)]
        elif path.is_file():
            found.append(path)
        else:
            raise InputError("file-missing", f"There is no file {path}.", "Check the path.")
    if not found:
        raise InputError("no-dicom", "There is no DICOM file to send.", "Give files or folders.")
    return found


def patiently(ask: Callable[[], T]) -> T:
    """What ``ask`` gives; asked again after a while when the line breaks, a few times."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return ask()
        except ArchiveUnreachableError:
            time.sleep(_FIRST_WAIT_S * 2**attempt)
    return ask()


def remote_series(item: pydicom.Dataset, study: pydicom.Dataset | None = None) -> RemoteSeries:
    """From the attributes that an archive answers with; those of the study may come apart."""
    whole = item if study is None else study
    count = tag_text(item, "NumberOfSeriesRelatedInstances")
    return RemoteSeries(
        tag_text(item, "StudyInstanceUID") or tag_text(whole, "StudyInstanceUID"),
        tag_text(item, "SeriesInstanceUID"),
        tag_text(item, "Modality"),
        tag_text(item, "SeriesDescription"),
        tag_text(item, "StudyDate") or tag_text(whole, "StudyDate"),
        tag_text(item, "PatientID") or tag_text(whole, "PatientID"),
        int(count) if count.isdigit() else None,
    )


def _identifiers(path: Path) -> tuple[str, str, str]:
    """UIDs of study, series and instance."""
    import pydicom

    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    try:
        with quiet_readers():
            header = pydicom.dcmread(path, specific_tags=list(keywords), stop_before_pixels=True)
    except Exception as error:  # the parser raises almost anything
        raise InputError(
            "dicom-unreadable", f"{path} is no DICOM file.", "Leave it out, or copy it again."
        ) from error
    study, series, instance = (tag_text(header, keyword) for keyword in keywords)
    if not (study and series and instance):
        raise InputError(
            "dicom-tag-missing",
            f"{path} lacks identifiers of its study, series or instance.",
            "Leave it out, or export it again.",
        )
    return study, series, instance


def _begins_as_dicom(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def _file(folder: Path, uid: str) -> Path:
    return folder / f"{uid}.dcm"
