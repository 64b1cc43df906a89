"""From a job to a task: the places of everything that a worker needs, none named by a client."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imbalanceseg.errors import InputError
from imbalanceseg.server.library import Library
from imbalanceseg.server.records import Job, JobKind, JobState
from imbalanceseg.server.result_files import (
    ANNOTATION_FILE,
    CHANGED_FILE,
    HARDNESS_FILE,
    LABELS_FILE,
    PREVIEW_FILE,
)
from imbalanceseg.server.shelf import ModelShelf
from imbalanceseg.server.store import Store


class TaskMaker:
    """Finds what jobs refer to, and says what is missing before they run."""

    def __init__(self, store: Store, library: Library, shelf: ModelShelf) -> None:
        self._store, self._library, self._shelf = store, library, shelf

    def task_of(self, job: Job, folder: Path) -> dict[str, Any]:
        """Everything a worker needs for a job; it writes into ``folder``.

        Raises:
            InputError: ``case-unknown``, ``annotation-unknown``, ``base-unknown``,
                ``base-unfinished``, ``base-of-another-case``, ``result-gone`` or
                ``dicom-seg-needs-series``.
            ModelError: ``model-unknown``.
        """
        case = self._library.case(job.case)
        asked = dict(job.parameters)
        base = asked.pop("base", None)
        channels = self._store.case_folder(case.id)
        task: dict[str, Any] = {
            "id": job.id,
            "kind": job.kind.value,
            "case": job.case,
            "images": [str(channels / f"channel_{n}.nrrd") for n in range(case.channels)],
            "folder": str(folder),
            "chain": self._chain(job.case, base) if base else [],
            "model": None,
            "annotation": None,
        }
        asked.pop("prepare_clicks", None)
        if job.kind is JobKind.SEGMENT:
            task["model"] = self._shelf.place(asked.pop("model"))
        elif job.kind is JobKind.FINETUNE:
            self._finetune(job.case, asked, task)
            task["checkpoint"] = str(self._store.checkpoint_file(job.id))
            task["preview"] = str(folder / PREVIEW_FILE) if asked.pop("preview", False) else None
        elif job.kind is JobKind.SUGGEST:
            if named := asked.pop("annotation"):
                task["annotation"] = self._labels(job.case, named)
        elif job.kind is JobKind.EVALUATE:
            task["reference"] = self._labels(job.case, asked.pop("reference"))
        elif job.kind is JobKind.DICOM_SEG:
            task["model"] = task["chain"][0]["model"]
            task["series"] = self._series(job.case)
        if job.kind in (JobKind.EVALUATE, JobKind.DICOM_SEG) and (named := asked.pop("labels")):
            task["annotation"] = self._labels(job.case, named)
        return task | {"parameters": asked}

    def preparation_of(self, job: Job) -> dict[str, Any]:
        """What makes a worker ready for clicks on the result of a job; errors as above."""
        case = self._library.case(job.case)
        channels = self._store.case_folder(case.id)
        return {
            "id": f"prepare-{job.id}",
            "kind": "prepare",
            "case": job.case,
            "images": [str(channels / f"channel_{n}.nrrd") for n in range(case.channels)],
            "chain": self._chain(job.case, job.id),
            "parameters": {"device": job.parameters["device"]},
        }

    def _finetune(self, case: str, asked: dict[str, Any], task: dict[str, Any]) -> None:
        model, named = asked.pop("model"), asked.pop("annotation")
        task["model"] = self._shelf.place(model) if model else None
        if named or not task["chain"]:
            task["annotation"] = self._labels(case, named)

    def _labels(self, case: str, annotation: str | None) -> str:
        found = self._library.annotation(case, annotation)
        return str(self._store.annotation_file(case, found.id))

    def _series(self, case: str) -> str:
        folder = self._store.dicom_folder(case)
        if not folder.is_dir():
            raise InputError(
                "dicom-seg-needs-series",
                "A DICOM-SEG refers to the slices of a DICOM series, and none was sent.",
                "Send the files of the series first; their pixels are not needed.",
            )
        return str(folder)

    def _chain(self, case: str, base: str) -> list[dict[str, Any]]:
        """The result that clicks began with, and the clicks since, up to the job ``base``."""
        jobs = self._store.chain(base)
        _require_base(jobs, case)
        if jobs[-1].kind is JobKind.CLICK:
            raise _gone()
        *clicks, root = jobs
        return [self._root(root), *(self._click(job) for job in reversed(clicks))]

    def _click(self, job: Job) -> dict[str, Any]:
        file = None
        if job.outcome["start"] is not None:
            if CHANGED_FILE not in job.files:
                raise _gone()
            file = str(self._store.result_folder(job.id) / CHANGED_FILE)
        click = {key: job.parameters[key] for key in ("point_mm", "label", "radius_mm")}
        return {"id": job.id, "changed": file, **click}

    def _root(self, job: Job) -> dict[str, Any]:
        if LABELS_FILE not in job.files:
            raise _gone()
        folder = self._store.result_folder(job.id)
        files = {
            key: str(folder / name) if name in job.files else None
            for key, name in (
                ("labels", LABELS_FILE),
                ("hardness", HARDNESS_FILE),
                ("annotation", ANNOTATION_FILE),
            )
        }
        model = job.outcome["model"] if job.kind is JobKind.FINETUNE else job.parameters["model"]
        return {"id": job.id, "model": self._shelf.place(model)} | files


def _require_base(jobs: Sequence[Job], case: str) -> None:
    kinds = (JobKind.SEGMENT, JobKind.FINETUNE, JobKind.CLICK)
    if not jobs or jobs[0].kind not in kinds:
        raise InputError(
            "base-unknown",
            "There is no result of this number to go on from.",
            "Name a segmentation, an adaptation or a click.",
        )
    if jobs[0].case != case:
        raise InputError(
            "base-of-another-case",
            "The result that is to be gone on from is of another case.",
            "Name a job of the same case.",
        )
    if jobs[0].state is not JobState.DONE:
        raise InputError(
            "base-unfinished",
            f"The job that is to be gone on from is {jobs[0].state}.",
            "Wait until it is done.",
        )


def _gone() -> InputError:
    return InputError(
        "result-gone",
        "The result that is to be gone on from was removed, because the room was needed.",
        "Segment the scan again.",
    )
