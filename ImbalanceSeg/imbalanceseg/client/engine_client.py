"""Tasks for an engine in another process.

Nothing blocks: everything goes on in threads, and callbacks wait until :meth:`EngineClient.poll` is
called, in a GUI by a timer.
"""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import SimpleITK as sitk

from imbalanceseg.client.http import Connection, EngineError, EngineUnreachable
from imbalanceseg.client.process import LocalEngine
from imbalanceseg.client.task import EngineTask, EventCallback, JobResult
from imbalanceseg.client.volumes import RawBody, image_of, without_pixels, zipped_body
from imbalanceseg.errors import Cancelled, ImbalanceSegError
from imbalanceseg.nrrd_stream import VolumeHeader, case_id, voxel_chunks
from imbalanceseg.progress import ProgressEvent

Scan: TypeAlias = str | sitk.Image | Sequence[sitk.Image]
"""The address of a case that was uploaded, an image, or one image a channel.

An image is read in the background: it must stay as it is until the task is over.
"""

_Answer = TypeVar("_Answer")
_PATIENCE_SECONDS = 120.0
_SECONDS_TO_TELL = 1.0
_MOST_DELIVERED = 200
_FINAL = ("done", "failed", "cancelled")


class EngineClient:
    """One engine, started here or running elsewhere.

    Every method returns an :class:`~imbalanceseg.client.task.EngineTask` at once. ``on_event``
    receives a :class:`~imbalanceseg.progress.ProgressEvent` and ``on_done`` the task, both on the
    thread that calls :meth:`poll`.

    Attributes:
        info: what the engine has said of itself, models included; None before.
    """

    def __init__(self, connection: Connection | None, engine: LocalEngine | None) -> None:
        self.info: Mapping[str, Any] | None = None
        self._connection, self._engine = connection, engine
        self._connecting = threading.Lock()
        self._deliveries: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._tasks: list[EngineTask] = []
        self._closed = False
        self._alive = 0.0

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> EngineClient:
        """An engine on this computer, started by the first task and again should it die.

        Args:
            command: program and leading arguments, ``["PythonSlicer", "-m", "imbalanceseg"]``.
            folder: keeps cases and results; None for the user's own.
            environment: the child's whole environment; None passes on the present one.
            arguments: further ones of ``imbalanceseg serve``.
        """
        return cls(None, LocalEngine(command, folder, environment, arguments))

    @classmethod
    def connect(cls, url: str, token: str, verify: bool | str = True) -> EngineClient:
        """An engine that runs already.

        Args:
            url: where, for example ``https://gpu.hospital.org:8650``.
            token: that it asks for.
            verify: False takes any certificate; a path names the authority that signed it.
        """
        return cls(Connection(url, token, verify), None)

    @property
    def connection_name(self) -> str | None:
        """What this client is called at the engine; None before it is connected."""
        return None if self._connection is None else self._connection.client

    def poll(self) -> int:
        """Call the callbacks that are due on this thread, and say how many that were."""
        for count in range(_MOST_DELIVERED):
            try:
                deliver = self._deliveries.get_nowait()
            except queue.Empty:
                return count
            deliver()
        return _MOST_DELIVERED

    def close(self) -> None:
        """Cancel everything, and end an engine that was started here.

        Takes a second for another engine to be told, and a few for an own one to end.
        """
        self._closed = True
        for task in list(self._tasks):
            self.cancel(task)
        until = time.monotonic() + _SECONDS_TO_TELL
        while self._tasks and self._engine is None and time.monotonic() < until:
            time.sleep(0.01)
        if self._engine is not None:
            self._engine.end()

    def hello(self, on_done: Callable[[EngineTask], None] | None = None) -> EngineTask:
        """Start or reach the engine; the result is :attr:`info`, anew."""

        def work(task: EngineTask) -> Any:
            self.info = self._reached(task, lambda connection: connection.handshake())
            return self.info

        return self._begin(work, None, on_done)

    def upload(
        self,
        scan: Scan,
        on_event: EventCallback | None = None,
        on_done: Callable[[EngineTask], None] | None = None,
    ) -> EngineTask:
        """Send a scan that the engine does not have yet; the result is its address."""
        return self._begin(lambda task: self._case(task, scan), on_event, on_done)

    def segment(self, scan: Scan, model: str, **options: Any) -> EngineTask:
        """Segment a scan.

        Args:
            scan: see :data:`Scan`.
            model: one of ``info["models"]``.
            options: ``on_event``, ``on_done``, and parameters of ``POST /v1/jobs``: ``maps``,
                ``tta``, ``roi``, ``device``, ``prepare_clicks``, ...
        """
        return self._job("segment", scan, options, {"model": model})

    def finetune(
        self,
        scan: Scan,
        annotation: sitk.Image | None,
        model: str | None,
        confirmed: Sequence[tuple[int, int]] = (),
        **options: Any,
    ) -> EngineTask:
        """Teach a model, or none, this patient.

        Args:
            scan: see :data:`Scan`.
            annotation: uint8 on the grid of the scan, 255 where nothing is said; None takes what
                ``base`` knows, or what was sent last.
            model: what to start from.
            confirmed: axis and index of slices in which everything is labelled.
            options: as :meth:`segment`: ``base``, ``seconds``, ``depth``, ``seed``, ...
        """
        sent = {} if annotation is None else {"annotation": (annotation, confirmed)}
        return self._job("finetune", scan, options, {"model": model}, sent)

    def click(
        self,
        scan: Scan,
        base: EngineTask | str,
        point_mm: Sequence[float],
        label: int,
        **options: Any,
    ) -> EngineTask:
        """Say what is at a point (LPS); the result's image ``"changed"`` is all that has changed.

        Args:
            scan: see :data:`Scan`.
            base: segmentation, adaptation or click to go on from; it may still be running. To take
                a click back, go on from the one before.
            point_mm: LPS.
            label: 1..K for what was missed, 0 for what is wrong.
            options: as :meth:`segment`: ``radius_mm``, ``device``.
        """
        asked = {"base": base, "point_mm": [float(x) for x in point_mm], "label": int(label)}
        return self._job("click", scan, options, asked)

    def suggest(self, scan: Scan, base: EngineTask | str, n: int = 5, **options: Any) -> EngineTask:
        """Which slices are best painted next: ``outcome["suggestions"]``."""
        return self._job("suggest", scan, options, {"base": base, "n": n})

    def evaluate(
        self, scan: Scan, base: EngineTask | str, reference: sitk.Image, **options: Any
    ) -> EngineTask:
        """Compare a result with reference labels on the scan's grid: ``outcome["figures"]``."""
        return self._job("evaluate", scan, options, {"base": base}, {"reference": (reference, ())})

    def dicom_seg(
        self,
        scan: Scan,
        base: EngineTask | str,
        series: Sequence[Path] = (),
        labels: sitk.Image | None = None,
        **options: Any,
    ) -> EngineTask:
        """Write a DICOM Segmentation: ``files["segmentation.dcm"]``.

        Args:
            scan: see :data:`Scan`.
            base: whose labels and model count.
            series: files of the series that the scan came from; without any those sent before.
            labels: corrected ones, on the scan's grid.
            options: as :meth:`segment`.
        """
        sent = {} if labels is None else {"labels": (labels, ())}
        return self._job("dicom-seg", scan, options, {"base": base}, sent, series)

    def cancel(self, task: EngineTask) -> None:
        """Stop a task; it ends with the error :class:`~imbalanceseg.errors.Cancelled`."""
        task.want_cancelled()
        if task.job is not None and not task.is_over:
            threading.Thread(target=self._stop, args=(task.job,), daemon=True).start()

    # in the background

    def _job(
        self,
        kind: str,
        scan: Scan,
        options: dict[str, Any],
        asked: dict[str, Any],
        sent: Mapping[str, tuple[sitk.Image, Sequence[tuple[int, int]]]] | None = None,
        series: Sequence[Path] = (),
    ) -> EngineTask:
        on_event, on_done = options.pop("on_event", None), options.pop("on_done", None)
        parameters = {**options, **asked}

        def work(task: EngineTask) -> JobResult:
            case = self._case(task, scan)
            for name, (image, confirmed) in (sent or {}).items():
                parameters[name] = self._annotation(task, case, image, confirmed)
            for number, path in enumerate(series):
                self._tell(task, ProgressEvent("upload", number, len(series), "DICOM headers"))
                self._dicom(task, case, number, path)
            if "base" in parameters:
                parameters["base"] = _number_of(task, parameters["base"])
            job = task.job = secrets.token_hex(16)
            request = {"kind": kind, "case": case, "id": job, "parameters": parameters}
            # A click is answered within the request; a long job tells of itself.
            wait = {"wait": 5} if kind in ("click", "suggest") else None
            answer = self._reached(task, lambda c: c.call("POST", "/v1/jobs", request, params=wait))
            if task.is_cancelled:
                # It may have been stopped before the engine knew of it.
                self._stop(job)
            stands = answer.json()
            if stands["state"] not in _FINAL:
                stands = self._followed(task, job)
            return self._fetched(task, stands)

        return self._begin(work, on_event, on_done)

    def _begin(
        self,
        work: Callable[[EngineTask], Any],
        on_event: EventCallback | None,
        on_done: Callable[[EngineTask], None] | None,
    ) -> EngineTask:
        task = EngineTask(self, on_event, on_done)
        self._tasks.append(task)
        threading.Thread(target=self._run, args=(task, work), daemon=True).start()
        return task

    def _run(self, task: EngineTask, work: Callable[[EngineTask], Any]) -> None:
        result, error = None, None
        try:
            task.require_wanted()
            result = work(task)
        except ImbalanceSegError as fault:
            error = Cancelled() if task.is_cancelled else fault
        except Exception as fault:
            error = EngineError("internal", f"Something unexpected happened ({fault!r}).")
        self._tasks.remove(task)
        task.end(result, error)
        if task.on_done is not None:
            done = task.on_done
            self._deliveries.put(lambda: done(task))

    def _tell(self, task: EngineTask, event: ProgressEvent) -> None:
        task.heard()
        task.require_wanted()
        if task.on_event is not None:
            tell = task.on_event
            self._deliveries.put(lambda: tell(event))

    def _case(self, task: EngineTask, scan: Scan) -> str:
        if isinstance(scan, str):
            return scan
        images = [scan] if isinstance(scan, sitk.Image) else list(scan)
        case = case_id(images)
        if not self._reached(task, lambda c: c.has(f"/v1/cases/{case}")):
            self._reached(task, lambda c: self._send(task, c, case, images))
        return case

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

    def _annotation(
        self,
        task: EngineTask,
        case: str,
        image: sitk.Image,
        confirmed: Sequence[tuple[int, int]],
    ) -> str:
        fields = {"ImbalanceSeg_FormatVersion": "1"}
        fields["ImbalanceSeg_ConfirmedSlices"] = json.dumps([list(one) for one in confirmed])
        body = b"".join(zipped_body(VolumeHeader.of([image]), voxel_chunks([image]), fields))
        path = f"/v1/cases/{case}/annotation"
        response = self._reached(task, lambda c: c.call("PUT", path, data=body))
        return str(response.json()["id"])

    def _dicom(self, task: EngineTask, case: str, number: int, path: Path) -> None:
        body = without_pixels(path.read_bytes())
        self._reached(task, lambda c: c.call("PUT", f"/v1/cases/{case}/dicom/{number}", data=body))

    def _followed(self, task: EngineTask, job: str) -> Mapping[str, Any]:
        """Listen until a job is over; through cut lines, and through a new start of the engine."""
        after = 0

        def listen(connection: Connection) -> Mapping[str, Any] | None:
            nonlocal after
            for number, data in connection.events(job, self._is_alive, after):
                after = number
                task.heard()
                if data["event"] == "progress":
                    with contextlib.suppress(Cancelled):
                        self._tell(task, _progress(data))
                elif data["job"]["state"] in _FINAL:
                    return dict(data["job"])
            raise EngineUnreachable("the stream of events ended")

        return self._reached(task, listen) or {}

    def _fetched(self, task: EngineTask, job: Mapping[str, Any]) -> JobResult:
        if job["state"] == "cancelled":
            raise Cancelled
        if job["state"] == "failed":
            raise EngineError(**job["fault"])
        images: dict[str, sitk.Image] = {}
        files: dict[str, bytes] = {}
        for name in job["files"]:
            path = f"/v1/jobs/{job['id']}/results/{name}"
            content = self._reached(task, partial(_get, path=path)).content
            if name.endswith(".nrrd"):
                images[name.removesuffix(".nrrd")] = image_of(content)
            else:
                files[name] = content
        return JobResult(str(job["id"]), job["outcome"], images, files)

    def _stop(self, job: str) -> None:
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(ImbalanceSegError):
                connection.call("DELETE", f"/v1/jobs/{job}")

    def _reached(self, task: EngineTask, ask: Callable[[Connection], _Answer]) -> _Answer:
        """Ask the engine, and again while it cannot be reached, until two minutes have passed."""
        pause = 0.1
        self._alive = time.monotonic()
        while True:
            tried = time.monotonic()
            try:
                return ask(self._connected())
            except EngineUnreachable:
                silent = time.monotonic() - self._alive
                if self._closed or task.is_cancelled or silent > _PATIENCE_SECONDS:
                    raise
                # A line that worked for a while is tried again soon.
                pause = 0.1 if self._alive > tried else min(2.0, 2 * pause)
                time.sleep(pause)

    def _is_alive(self) -> None:
        self._alive = time.monotonic()

    def _connected(self) -> Connection:
        """A connection to an engine that was running a moment ago; starts it where it is ours."""
        with self._connecting:
            if self._closed:
                raise EngineUnreachable("it was closed")
            if self._engine is not None and not self._engine.is_running:
                self._connection = Connection(*self._engine.start())
                self.info = None
                if self._closed:
                    self._engine.end()
                    raise EngineUnreachable("it was closed")
            assert self._connection is not None
            if self.info is None:
                self.info = self._connection.handshake()
            return self._connection


def _get(connection: Connection, path: str) -> Any:
    return connection.call("GET", path)


def _number_of(task: EngineTask, base: EngineTask | str) -> str:
    """The number of a job to go on from, once that is over."""
    if isinstance(base, str):
        return base
    while not base.is_over:
        task.require_wanted()
        time.sleep(0.01)
    if base.error is not None:
        raise base.error
    return str(base.job)


def _progress(data: Mapping[str, Any]) -> ProgressEvent:
    return ProgressEvent(
        str(data["stage"]),
        int(data["done"]),
        int(data["total"]),
        str(data.get("message", "")),
        dict(data.get("metrics", {})),
    )
