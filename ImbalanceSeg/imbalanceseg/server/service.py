"""The engine as a service, without a word of HTTP: whatever speaks to clients stands on this."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imbalanceseg
from imbalanceseg.errors import InputError
from imbalanceseg.server.jobs import JobBook
from imbalanceseg.server.lane import Lane
from imbalanceseg.server.library import Library
from imbalanceseg.server.limits import Limits
from imbalanceseg.server.model_archive import files_of, zipped
from imbalanceseg.server.records import Job, JobState
from imbalanceseg.server.shelf import ModelShelf
from imbalanceseg.server.store import Store
from imbalanceseg.server.tasks import TaskMaker

PROTOCOL = 1
"""Raised when a client that speaks an older protocol would be misunderstood."""

_NICE = 10


@dataclass(frozen=True)
class ServiceSettings:
    """How a service is set up.

    Attributes:
        folder: where everything is kept.
        models: folders of further bundles.
        models_folders: folders in which further bundles lie, now or later.
        limits: of what clients may ask for.
    """

    folder: Path
    models: Sequence[Path] = ()
    models_folders: Sequence[Path] = ()
    limits: Limits = field(default_factory=Limits)


class EngineService:
    """Everything that clients can ask of an engine.

    Two workers compute. The first does long jobs, one at a time. The second answers clicks and
    suggestions, so that these wait for no adaptation, and goes before the first on the processor.
    It is started when the first long job begins, and not by a server that nobody has asked for
    anything.

    Attributes:
        limits: of what clients may ask for.
        store: what is kept.
        library: cases and annotations.
        shelf: models.
        jobs: everything about jobs.

    Raises:
        OutputError: ``data-folder`` or ``data-folder-in-use``.
        ModelError: a bundle of the settings cannot be read.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.limits = settings.limits
        self.store = Store(settings.folder)
        self.library = Library(self.store, self.limits)
        self.shelf = ModelShelf(self.store, settings.models, settings.models_folders)
        tasks = TaskMaker(self.store, self.library, self.shelf)
        self.jobs = JobBook(self.store, self.library, tasks, self.limits)
        self._long = Lane("long", self.jobs.long, self.jobs, _NICE)
        self._quick = Lane("quick", self.jobs.quick, self.jobs)
        self.jobs.on_begin = lambda job: self._quick.wake()
        self._begun = time.time()
        self.stopping = False

    def start(self) -> None:
        """Begin to work; the first worker loads torch meanwhile."""
        self._long.wake()
        self._long.start()
        self._quick.start()

    def stop(self, seconds: float = 0.0) -> None:
        """Stop: no job begins any more, and what runs is interrupted after so many seconds.

        Jobs that wait do so again when a service is started on the same folder.
        """
        self.stopping = True
        self.jobs.close()
        lanes = [lane for lane in (self._long, self._quick) if lane.is_alive()]
        for lane in lanes:
            lane.close()
        until = time.monotonic() + seconds
        for lane in lanes:
            lane.join(max(0.0, until - time.monotonic()))
        self.jobs.interrupt()
        for lane in lanes:
            lane.join()

    def close(self) -> None:
        """Let go of the data folder, once nobody asks any more."""
        self.store.close()

    @property
    def is_idle(self) -> bool:
        """Whether no job waits or runs."""
        return not self.jobs.unfinished()

    def info(self) -> dict[str, Any]:
        """Versions, device, models, and how much may be asked for."""
        from imbalanceseg.reporting.environment import software_versions

        lanes = (self._long, self._quick)
        return {
            "name": "ImbalanceSeg",
            "disclaimer": "Not for clinical use.",
            "protocol": PROTOCOL,
            "version": imbalanceseg.__version__,
            "versions": software_versions(),
            "device": self.jobs.device_facts,
            "models": self.shelf.summaries(),
            "limits": {
                "upload_bytes": self.limits.upload_bytes,
                "volume_bytes": self.limits.volume_bytes,
                "dicom_file_bytes": self.limits.dicom_file_bytes,
                "queued_jobs_of_client": self.limits.queued_jobs_of_client,
            },
            "queue": {
                "waiting": len(self.jobs.long) + len(self.jobs.quick),
                "running": sum(lane.running is not None for lane in lanes),
            },
            "disk": {"used_bytes": self.store.used_bytes(), "limit_bytes": self.limits.disk_bytes},
            "workers": [lane.worker_pid for lane in lanes if lane.worker_pid],
            "uptime_seconds": round(time.time() - self._begun, 1),
        }

    def result_file(self, job: str, name: str) -> Path:
        """A file of the results of a job, by the name that the job tells.

        Raises:
            InputError: ``job-unknown``, ``job-unfinished``, ``result-gone`` or ``result-unknown``.
        """
        found = self.jobs.job(job)
        if not found.state.is_final:
            raise InputError("job-unfinished", "The job is not over.", "Wait until it is done.")
        if name not in found.files:
            raise self._no_result(found)
        self.store.touch("jobs", job)
        return self.store.result_folder(job) / name

    def model_archive(self, model: str) -> Iterator[bytes]:
        """A model that was adapted here, as the pieces of a zip of its bundle.

        Raises:
            ModelError: ``model-unknown``, ``model-not-adapted`` or ``model-too-large``.
        """
        folder = self.shelf.adapted_folder(model)
        return zipped(folder, files_of(folder, self.limits.model_bytes))

    def delete_case(self, case: str, everything: bool) -> None:
        """Delete the voxels of a case and all results of it.

        Args:
            case: address.
            everything: its annotations and adapted models, too.

        Raises:
            InputError: ``case-unknown`` or ``case-busy``.
        """
        self.library.case(case)
        if self.jobs.unfinished(case):
            raise InputError(
                "case-busy", "Jobs of this case wait or run.", "Wait for them, or cancel them."
            )
        for job in self.store.jobs('"case" = ?', case):
            self.store.drop_job(job.id)
        if everything:
            for annotation in self.store.annotations(case):
                self.store.drop_annotation(case, annotation.id)
            for model in self.store.models():
                if model.case == case:
                    self.store.drop_model(model.id)
        self.store.drop_case(case)

    def delete_model(self, model: str) -> None:
        """Delete a model that was adapted here.

        Raises:
            InputError: ``model-not-deletable``.
        """
        if self.store.model(model) is None:
            raise InputError(
                "model-not-deletable",
                "There is no adapted model of this name here.",
                "Models that came with the engine cannot be deleted.",
            )
        self.store.drop_model(model)

    @staticmethod
    def _no_result(job: Job) -> InputError:
        if job.state is JobState.DONE and not job.files and job.outcome.get("segments"):
            return InputError(
                "result-gone",
                "The results of this job were removed, because the room was needed.",
                "Start the job again.",
            )
        return InputError(
            "result-unknown", "The job has no result of this name.", "Name one of its `files`."
        )
