"""The life of jobs: asked for, waiting, running, done; every step is written down and told."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imbalanceseg.errors import ImbalanceSegError, InputError
from imbalanceseg.server.event_log import Event, EventLog
from imbalanceseg.server.fair_queue import FairQueue
from imbalanceseg.server.library import Library
from imbalanceseg.server.limits import Limits
from imbalanceseg.server.records import (
    Fault,
    Job,
    JobKind,
    JobState,
    StoredAnnotation,
    StoredModel,
)
from imbalanceseg.server.requests import JobRequest
from imbalanceseg.server.result_files import ANNOTATION_FILE, MODEL_FOLDER, PREVIEW_FILE
from imbalanceseg.server.store import Store
from imbalanceseg.server.tasks import TaskMaker

QUICK_KINDS = (JobKind.CLICK, JobKind.SUGGEST)
"""Jobs that a person waits for with the hand on the mouse: they have a worker of their own."""

_PREPARE = "prepare:"
_FINISHED_LOGS = 200
_INTERRUPTED = Fault(
    "interrupted",
    "The engine was stopped while the job was running.",
    "Start the job again.",
)


class JobBook:
    """Keeps the jobs, and is what lanes ask; safe to use from any thread."""

    def __init__(self, store: Store, library: Library, tasks: TaskMaker, limits: Limits) -> None:
        self._store, self._library, self._tasks = store, library, tasks
        self.long = FairQueue(limits.queued_jobs, limits.queued_jobs_of_client)
        self.quick = FairQueue(limits.queued_jobs, limits.queued_jobs_of_client)
        self._lock = threading.RLock()
        self._logs: dict[str, EventLog] = {}
        self._progress: dict[str, Mapping[str, Any]] = {}
        self._stops: dict[str, JobState] = {}
        self._finishes: set[str] = set()
        self._folders: dict[str, Path] = {}
        self.device_facts: Mapping[str, Any] | None = None
        self.on_begin: Callable[[Job], None] = lambda job: None
        self._closed = False
        self._take_up()

    # for clients

    def submit(self, client: str, request: JobRequest) -> Job:
        """Let a job wait for its turn; asking twice under one number makes one job.

        Raises:
            InputError, ModelError: what it refers to is not here, the queue is full, or
                ``stopping``.
        """
        parameters = request.parameters.model_dump(mode="json")
        if request.kind == "finetune" and not (parameters["annotation"] or parameters["base"]):
            # What is sent while the job waits is for the next one.
            parameters["annotation"] = self._library.annotation(request.case, None).id
        with self._lock:
            if self._closed:
                raise InputError(
                    "stopping", "The engine is about to stop.", "Try again when it is back."
                )
            if request.id is not None and (known := self._store.job(request.id)):
                return known
            job = Job(
                id=request.id or secrets.token_hex(16),
                client=client,
                kind=JobKind(request.kind),
                case=request.case,
                parameters=parameters,
                base=parameters.get("base"),
                created=time.time(),
            )
            # A job that cannot run is refused at once, not when its turn comes.
            self._tasks.task_of(job, Path())
            self._store.save_job(job)
            try:
                self._queue_of(job).put(client, job.id)
            except InputError:
                self._store.drop_job(job.id)
                raise
            return self._changed(job)

    def job(self, job: str) -> Job:
        """A job as it stands.

        Raises:
            InputError: ``job-unknown``.
        """
        found = self._store.job(job)
        if found is None:
            raise InputError("job-unknown", "There is no job of this number.", "Start it again.")
        return found

    def view(self, job: Job) -> dict[str, Any]:
        """A job as clients see it."""
        view = asdict(job)
        view["progress"] = None if job.state.is_final else self._progress.get(job.id)
        view["waiting"] = self._queue_of(job).position(job.id) if job.state == "queued" else None
        return view

    def log(self, job: str) -> EventLog:
        """What has happened to a job since the server began.

        Raises:
            InputError: ``job-unknown``.
        """
        with self._lock:
            if job not in self._logs:
                self._logs[job] = EventLog(self.job(job).last_event)
            return self._logs[job]

    def events(self, job: str, after: int) -> list[Event]:
        """Events with a higher number; of a job that is over, at least that it is.

        Raises:
            InputError: ``job-unknown``.
        """
        log = self.log(job)
        # A higher number is one of an earlier server.
        found = log.after(after if after <= log.last else 0)
        if not found:
            stands = self.job(job)
            if stands.state.is_final:
                return [Event(log.last + 1, {"event": "state", "job": self.view(stands)})]
        return found

    def cancel(self, job: str) -> Job:
        """Stop a job; nothing happens where it is over.

        Raises:
            InputError: ``job-unknown``.
        """
        with self._lock:
            found = self.job(job)
            if found.state.is_final:
                return found
            if self._queue_of(found).remove(job):
                return self._over(found, JobState.CANCELLED)
            self._stops[job] = JobState.CANCELLED
            return found

    def finish(self, job: str) -> Job:
        """Have an adaptation end soon, with the best so far; nothing happens where it is over.

        Raises:
            InputError: ``job-unknown`` or ``job-all-or-nothing``.
        """
        with self._lock:
            found = self.job(job)
            if found.kind is not JobKind.FINETUNE:
                raise InputError(
                    "job-all-or-nothing",
                    "Only an adaptation can end early with what it has.",
                    "Wait until the job is done, or cancel it.",
                )
            if not found.state.is_final:
                self._finishes.add(job)
            return found

    def preview(self, job: str) -> bytes:
        """The labels that a running adaptation has shown last, as NRRD.

        Raises:
            InputError: ``job-unknown`` or ``preview-unknown``.
        """
        self.job(job)
        folder = self._folders.get(job)
        try:
            if folder is not None:
                return (folder / PREVIEW_FILE).read_bytes()
        except OSError:
            # There is none yet, or the job ends at this moment.
            pass
        raise InputError(
            "preview-unknown",
            "There is no preview of this job now.",
            "Ask for previews when the job is started; they are there while it runs.",
        )

    def forget(self, job: str) -> None:
        """Delete a job that is over, with its results.

        Raises:
            InputError: ``job-unknown``, or ``job-unfinished`` or ``job-needed``.
        """
        with self._lock:
            found = self.job(job)
            if not found.state.is_final:
                raise InputError("job-unfinished", "The job is not over.", "Cancel it first.")
            if self._store.jobs("base = ?", job, limit=1):
                raise InputError(
                    "job-needed", "Other jobs go on from this one.", "Delete those first."
                )
            self._store.drop_job(job)
            self._logs.pop(job, None)

    def unfinished(self, case: str | None = None) -> list[Job]:
        """Jobs that wait or run."""
        where = "state IN ('queued', 'running')"
        if case is None:
            return self._store.jobs(where)
        return self._store.jobs(f'{where} AND "case" = ?', case)

    def close(self) -> None:
        """Take no more jobs."""
        with self._lock:
            self._closed = True

    def interrupt(self) -> None:
        """Stop what is running, because the server stops."""
        with self._lock:
            for job in self.unfinished():
                if job.state is JobState.RUNNING:
                    self._stops.setdefault(job.id, JobState.FAILED)

    # for lanes

    def begin(self, job: str) -> Mapping[str, Any] | None:
        """See :class:`~imbalanceseg.server.lane.JobKeeper`."""
        folder = self._store.work / f"job-{secrets.token_hex(8)}"
        try:
            if job.startswith(_PREPARE):
                return self._tasks.preparation_of(self.job(job.removeprefix(_PREPARE)))
            with self._lock:
                found = self.job(job)
                if found.state is not JobState.QUEUED:
                    return None
                found = found.but(state=JobState.RUNNING, started=time.time())
                task = self._tasks.task_of(found, folder)
                folder.mkdir(mode=0o700)
                self._folders[job] = folder
                self._store.save_job(found)
                self._changed(found)
        except ImbalanceSegError as error:
            self.failed(job, Fault.of(error))
            return None
        self.on_begin(found)
        return task

    def progress(self, job: str, message: Mapping[str, Any]) -> None:
        """See :class:`~imbalanceseg.server.lane.JobKeeper`."""
        if job.startswith(_PREPARE):
            return
        if message["stage"] == "preview":
            self.log(job).add({"event": "preview", "number": message["done"]})
            return
        told = {key: value for key, value in message.items() if key not in ("event", "task")}
        self._progress[job] = told
        self.log(job).add({"event": "progress"} | told)

    def done(self, job: str, outcome: Mapping[str, Any]) -> None:
        """See :class:`~imbalanceseg.server.lane.JobKeeper`."""
        if job.startswith(_PREPARE):
            return
        try:
            self._keep(self.job(job), dict(outcome))
        except (ImbalanceSegError, OSError) as error:
            unkept = Fault("results-lost", "The results cannot be kept.", "Start the job again.")
            fault = Fault.of(error) if isinstance(error, ImbalanceSegError) else unkept
            self.failed(job, fault)

    def failed(self, job: str, fault: Fault) -> None:
        """See :class:`~imbalanceseg.server.lane.JobKeeper`."""
        if not job.startswith(_PREPARE):
            self._over(self.job(job), JobState.FAILED, fault)

    def stopped(self, job: str) -> None:
        """See :class:`~imbalanceseg.server.lane.JobKeeper`."""
        if job.startswith(_PREPARE):
            return
        if self._stops.get(job) is JobState.FAILED:
            self._interrupted(self.job(job))
        else:
            self._over(self.job(job), JobState.CANCELLED)

    def stop_wanted(self, job: str) -> bool:
        """See :class:`~imbalanceseg.server.lane.JobKeeper`."""
        return job in self._stops

    def finish_wanted(self, job: str) -> bool:
        """See :class:`~imbalanceseg.server.lane.JobKeeper`."""
        return job in self._finishes

    def device(self, facts: Mapping[str, Any]) -> None:
        """See :class:`~imbalanceseg.server.lane.JobKeeper`."""
        self.device_facts = facts

    # inside

    def _take_up(self) -> None:
        """Go on where an earlier server ended: what ran is lost, what waited waits again."""
        for job in reversed(self.unfinished()):
            if job.state is JobState.RUNNING:
                job = self._interrupted(job)
            if job.state is JobState.QUEUED:
                self._queue_of(job).put(job.client, job.id)

    def _interrupted(self, job: Job) -> Job:
        """An adaptation that has left a checkpoint waits, to go on there; other jobs are lost."""
        if not self._store.checkpoint_file(job.id).exists():
            return self._over(job, JobState.FAILED, _INTERRUPTED)
        with self._lock:
            self._stops.pop(job.id, None)
            if (folder := self._folders.pop(job.id, None)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
            job = job.but(state=JobState.QUEUED, started=None, last_event=self.log(job.id).last + 1)
            self._store.save_job(job)
            return self._changed(job)

    def _queue_of(self, job: Job) -> FairQueue:
        return self.quick if job.kind in QUICK_KINDS else self.long

    def _keep(self, job: Job, outcome: dict[str, Any]) -> None:
        """Move what a worker has made to where it stays."""
        folder = self._folders[job.id]
        sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
        with self._library.room_for(sum(sizes.values())):
            made = folder / MODEL_FOLDER
            if made.is_dir():
                size = sum(size for path, size in sizes.items() if path.is_relative_to(made))
                model = f"adapted-{job.id[:16]}"
                self._store.add_model(StoredModel(model, job.case, job.id, size, time.time()), made)
                outcome |= {"model": model, "annotation": self._keep_annotation(job, folder)}
            files = {path.name: path.stat().st_size for path in folder.iterdir()}
            self._over(
                job.but(outcome=outcome, files=files), JobState.DONE, made=self._folders[job.id]
            )
        if job.parameters.get("prepare_clicks"):
            self.quick.put(job.client, _PREPARE + job.id)

    def _keep_annotation(self, job: Job, folder: Path) -> str:
        """What a model was taught stays, also when the result goes."""
        file = folder / ANNOTATION_FILE
        content = file.read_bytes()
        annotation = hashlib.sha256(content).hexdigest()
        copy = folder / "kept.nrrd"
        shutil.copyfile(file, copy)
        self._store.add_annotation(
            StoredAnnotation(annotation, job.case, len(content), time.time()), copy
        )
        return annotation

    def _over(
        self, job: Job, state: JobState, fault: Fault | None = None, made: Path | None = None
    ) -> Job:
        with self._lock:
            log = self.log(job.id)
            self._stops.pop(job.id, None)
            self._finishes.discard(job.id)
            self._progress.pop(job.id, None)
            folder = self._folders.pop(job.id, None)
            job = job.but(state=state, fault=fault, finished=time.time(), last_event=log.last + 1)
            self._store.save_job(job, made)
            self._store.checkpoint_file(job.id).unlink(missing_ok=True)
            self._changed(job)
            if folder is not None and made is None:
                shutil.rmtree(folder, ignore_errors=True)
            self._forget_old_logs()
            return job

    def _changed(self, job: Job) -> Job:
        event = self.log(job.id).add({"event": "state", "job": self.view(job)})
        return job.but(last_event=event.number)

    def _forget_old_logs(self) -> None:
        surplus = len(self._logs) - _FINISHED_LOGS
        for job in list(self._logs)[: max(0, surplus)]:
            found = self._store.job(job)
            if found is None or found.state.is_final:
                del self._logs[job]
