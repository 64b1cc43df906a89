"""Many cases, one after another: a bad one never stops the rest, and nothing is done twice."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbalanceseg.cohort_cases import Case, find_cases
from imbalanceseg.cohort_table import DONE, FAILED, SKIPPED, STARTED, TABLE_FILE, CaseRow, CaseTable
from imbalanceseg.errors import Cancelled, ImbalanceSegError, OutputError
from imbalanceseg.privacy import deidentified
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress
from imbalanceseg.reading import printable
from imbalanceseg.session import Session, output_folder

if TYPE_CHECKING:
    from imbalanceseg.models.bundle import Model

__all__ = ["Case", "CaseRow", "find_cases", "segment_cohort"]

# Fields of a card that a result does not depend on, or that the table has columns for.
_WITHOUT_EFFECT = {
    "name",
    "version",
    "weights",
    "title",
    "description",
    "intended_use",
    "body_part",
    "training_data",
    "metrics",
    "limitations",
    "references",
    "authors",
    "copyright",
    "license",
}
_LONGEST_MESSAGE = 1000


def segment_cohort(
    cases: Sequence[Case],
    model: Model,
    output: str | os.PathLike[str],
    settings: Mapping[str, Any] | None = None,
    *,
    device: str = "auto",
    dicom_seg: bool = False,
    progress: ProgressCallback | None = None,
) -> list[CaseRow]:
    """Segment cases, each into a folder of its name, and keep a table of them, ``cases.csv``.

    The table is rewritten before and after every case, so that it is right whenever the work is
    stopped or killed. A case is skipped where the table says that it was done with the same
    weights, settings and unchanged input, and its labels and report are still there. Rows of
    cases that are not among ``cases`` stay.

    Args:
        cases: with different names, as :func:`find_cases` gives them.
        model: loaded once.
        output: folder of the results; made when missing.
        settings: keyword arguments of :meth:`~imbalanceseg.session.Session.segment` that change
            its result, such as ``maps``; values that JSON or ``str`` can tell apart.
        device: as there; has no part in whether a case is done.
        dicom_seg: also write a DICOM Segmentation of every case; a case that is no DICOM series
            fails.
        progress: receives an event of stage ``"cases"`` with the name of each case that is
            begun, those of its stages, and one of stage ``"cases"`` in the end.

    Returns:
        One row a case, in the order of ``cases``: ``"done"``, ``"failed"``, or ``"skipped"`` with
        the figures of the earlier run.

    Raises:
        OutputError: nothing can be written, the disk is full, or ``cases.csv`` is another table.
        ModelError: the weights are damaged or do not fit.
        InputError: a setting, or the device, cannot be used.
        Cancelled: the work was stopped; whatever else ``progress`` raises is passed on, too.
    """
    tell = progress or ignore_progress
    target = Path(output)
    with output_folder(target):
        table = CaseTable(target / TABLE_FILE)
        model.verify()
        job = _Job(model, target, dict(settings or {}), device, dicom_seg, _Passing(tell))
        stamp = job.stamp()
        rows: list[CaseRow] = []
        for done, case in enumerate(cases):
            row = replace(
                stamp, case=case.name, input=case.input, input_fingerprint=case.fingerprint()
            )
            earlier = table.rows.get(case.name)
            if earlier is not None and _is_done(earlier, row, target / case.name):
                rows.append(replace(earlier, status=SKIPPED))
                continue
            job.require_usable()
            tell(ProgressEvent("cases", done, len(cases), case.name))
            # What lies there from now on is no longer what an earlier row says.
            table.put(row)
            try:
                row = job.run(case, row)
            except _ReceiverError as stopped:
                raise stopped.error from None
            table.put(row)
            rows.append(row)
        tell(ProgressEvent("cases", len(cases), len(cases)))
    return rows


class _ReceiverError(BaseException):
    """What the receiver of progress raised: it stops the work and is no fault of the case."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class _Passing:
    """Passes events on."""

    def __init__(self, tell: ProgressCallback) -> None:
        self._tell = tell

    def __call__(self, event: ProgressEvent) -> None:
        try:
            self._tell(event)
        except Exception as error:
            raise _ReceiverError(error) from error


@dataclass
class _Job:
    """What all cases are done with."""

    model: Model
    output: Path
    settings: dict[str, Any]
    device: str
    dicom_seg: bool
    tell: ProgressCallback

    def stamp(self) -> CaseRow:
        """A row that says by which model and with which settings."""
        sums = [weights.sha256 for weights in self.model.card.weights]
        card = self.model.card.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
        given = {"settings": self.settings, "dicom_seg": self.dicom_seg, "card": card}
        return CaseRow(
            "",
            "",
            STARTED,
            model=self.model.name,
            model_version=self.model.version,
            model_sha=sums[0] if len(sums) == 1 else _digits(sums),
            settings=_digits(given)[:16],
        )

    def require_usable(self) -> None:
        """Refuse beforehand what would be wrong with every case; costs nothing the next time."""
        from imbalanceseg.inference.segment import settled

        settled(self.model, self.device, **self.settings)
        _ = self.model.networks

    def run(self, case: Case, row: CaseRow) -> CaseRow:
        """The row of a case that was tried.

        Raises:
            OutputError: what stands in the way is not in the folder of this case alone.
            Cancelled: the work was stopped.
        """
        start = time.perf_counter()
        folder = self.output / case.name
        try:
            self._segment(case, folder)
            volumes, components = _figures(folder / "report.json")
            row = replace(row, status=DONE, volume_ml=volumes, components=components)
        except Cancelled:
            raise
        except Exception as error:
            if isinstance(error, OutputError) and not _is_obstructed(folder, error):
                raise
            log = logging.getLogger(__name__)
            log.info("The case %s failed", case.name, exc_info=not deidentified())
            code, message = _fault(error)
            # Sentences about a file name it.
            message = "" if deidentified() else message
            row = replace(row, status=FAILED, code=code, message=message)
        return replace(row, seconds=round(time.perf_counter() - start, 3))

    def _segment(self, case: Case, folder: Path) -> None:
        self.tell(ProgressEvent("read", 0, 1, case.name))
        session = Session.open(case.source, case.series_uid, case.channels, self.model)
        session.name = case.name
        self.tell(ProgressEvent("read", 1, 1, case.name))
        if self.dicom_seg:
            session.require_dicom()
        with output_folder(folder):
            session.segment(self.model, device=self.device, progress=self.tell, **self.settings)
            session.write(folder, dicom_seg=self.dicom_seg, progress=self.tell)


def _digits(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_done(earlier: CaseRow, row: CaseRow, folder: Path) -> bool:
    return (
        earlier.status == DONE
        and earlier.same_work(row)
        and all((folder / name).is_file() for name in ("labels.nrrd", "report.json"))
    )


def _is_obstructed(folder: Path, error: OutputError) -> bool:
    """Whether something lies in the way of this case only, and the next one may be written."""
    if error.code == "output-is-a-folder":
        return True
    return folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK))


def _figures(report: Path) -> tuple[dict[str, float], dict[str, int]]:
    """Volume in millilitres and number of pieces of every segment, by its name."""
    segments = json.loads(report.read_text(encoding="utf-8"))["segments"]
    volumes = {one["name"]: one["volume_ml"] for one in segments}
    return volumes, {one["name"]: one["components"] for one in segments}


def _fault(error: Exception) -> tuple[str, str]:
    """Code and message of an error, on one line."""
    if isinstance(error, ImbalanceSegError):
        return error.code, printable(error.message, _LONGEST_MESSAGE)
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    message = printable(f"{kind}: {lines[0]}" if lines else kind, _LONGEST_MESSAGE)
    # torch has an error of its own for the memory of a device
    memory = isinstance(error, MemoryError) or kind == "OutOfMemoryError"
    return "out-of-memory" if memory else "unexpected", message
