"""Tasks for an engine in another process.

Nothing blocks: everything goes on in threads, and callbacks wait until :meth:`EngineClient.poll` is
called, in a GUI by a timer.
"""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import SimpleITK as sitk

from imbalanceseg.client.http import Connection, EngineError
from imbalanceseg.client.job_run import JobRun, PreviewCallback
from imbalanceseg.client.kept_model import MOST_BYTES, not_writable, require_place, unpack_model
from imbalanceseg.client.line import Line
from imbalanceseg.client.process import LocalEngine
from imbalanceseg.client.sender import Painted, Scan, Sender
from imbalanceseg.client.task import EngineTask, EventCallback
from imbalanceseg.errors import Cancelled, ImbalanceSegError
from imbalanceseg.progress import ProgressEvent

_SECONDS_TO_TELL = 1.0
_MOST_DELIVERED = 200


class EngineClient:
    """One engine, started here or running elsewhere.

    Every method returns an :class:`~imbalanceseg.client.task.EngineTask` at once. ``on_event``
    receives a :class:`~imbalanceseg.progress.ProgressEvent` and ``on_done`` the task, both on the
    thread that calls :meth:`poll`.
    """

    def __init__(self, connection: Connection | None, engine: LocalEngine | None) -> None:
        self._line = Line(connection, engine)
        self._sender = Sender(self._line, self.tell)
        self._deliveries: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._tasks: list[EngineTask] = []

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
    def info(self) -> Mapping[str, Any] | None:
        """What the engine has said of itself, models included; None before."""
        return self._line.info

    @property
    def _connection(self) -> Connection | None:
        return self._line.connection

    @property
    def connection_name(self) -> str | None:
        """What this client is called at the engine; None before it is connected."""
        return None if self._connection is None else self._connection.client

    @property
    def is_busy(self) -> bool:
        """Whether a task is not over, or a callback still waits for :meth:`poll`."""
        return bool(self._tasks) or not self._deliveries.empty()

    @property
    def last_lines(self) -> list[str]:
        """What an engine that was started here has written last; empty for any other."""
        engine = self._line.engine
        return [] if engine is None else list(engine.last_lines)

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
        self._line.close()
        for task in list(self._tasks):
            self.cancel(task)
        engine, until = self._line.engine, time.monotonic() + _SECONDS_TO_TELL
        while self._tasks and engine is None and time.monotonic() < until:
            time.sleep(0.01)
        if engine is not None:
            engine.end()

    def hello(self, on_done: Callable[[EngineTask], None] | None = None) -> EngineTask:
        """Start or reach the engine; the result is :attr:`info`, anew."""

        def work(task: EngineTask) -> Any:
            self._line.info = self._line.reached(task, lambda c: c.handshake())
            return self._line.info

        return self._begin(work, None, on_done)

    def upload(
        self,
        scan: Scan,
        on_event: EventCallback | None = None,
        on_done: Callable[[EngineTask], None] | None = None,
    ) -> EngineTask:
        """Send a scan that the engine does not have yet; the result is its address."""
        return self._begin(lambda task: self._sender.case(task, scan), on_event, on_done)

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
        on_preview: PreviewCallback | None = None,
        **options: Any,
    ) -> EngineTask:
        """Teach a model, or none, this patient.

        It can be ended early with :meth:`finish`.

        Args:
            scan: see :data:`Scan`.
            annotation: uint8 on the grid of the scan, 255 where nothing is said; None takes what
                ``base`` knows, or what was sent last.
            model: what to start from.
            confirmed: axis and index of slices in which everything is labelled.
            on_preview: receives labels on the scan's grid as soon as there are some and whenever
                there are newer ones, until the task is over.
            options: as :meth:`segment`: ``base``, ``seconds``, ``depth``, ``seed``, ...
        """
        sent = _sent("annotation", annotation, confirmed)
        return self._job("finetune", scan, options, {"model": model}, sent, on_preview=on_preview)

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

    def suggest(
        self,
        scan: Scan,
        base: EngineTask | str,
        n: int = 5,
        annotation: sitk.Image | None = None,
        confirmed: Sequence[tuple[int, int]] = (),
        **options: Any,
    ) -> EngineTask:
        """Which slices are best painted next: ``outcome["suggestions"]``.

        Args:
            scan: see :data:`Scan`.
            base: whose result is to become better.
            n: slices, at most.
            annotation: uint8 on the grid of the scan, 255 where nothing is said; None takes what
                ``base`` knows.
            confirmed: axis and index of slices in which everything is labelled.
            options: ``on_event``, ``on_done``.
        """
        sent = _sent("annotation", annotation, confirmed)
        return self._job("suggest", scan, options, {"base": base, "n": n}, sent)

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
            options: as :meth:`segment`: ``corrected``.
        """
        sent = _sent("labels", labels)
        return self._job("dicom-seg", scan, options, {"base": base}, sent, series)

    def keep_model(
        self,
        model: str,
        folder: Path,
        name: str | None = None,
        on_event: EventCallback | None = None,
        on_done: Callable[[EngineTask], None] | None = None,
    ) -> EngineTask:
        """Keep a model that was adapted there in a folder here; the result is the bundle's folder.

        An engine that is started with ``--models-folder FOLDER`` offers it under its name.

        Args:
            model: ``outcome["model"]`` of an adaptation.
            folder: made when missing.
            name: of the bundle's folder, which must not be there yet; None takes that of the model.
            on_event: receives progress.
            on_done: receives the task.
        """
        chosen = model if name is None else name

        def work(task: EngineTask) -> Path:
            require_place(folder, chosen)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder) as archive:
                    self._download(task, f"/v1/models/{quote(model, safe='')}", archive)
                    return unpack_model(archive, folder, chosen)
            except OSError as error:
                raise not_writable(folder / chosen, error) from error

        return self._begin(work, on_event, on_done)

    def background(
        self,
        work: Callable[[EngineTask], Any],
        on_done: Callable[[EngineTask], None] | None = None,
        on_event: EventCallback | None = None,
    ) -> EngineTask:
        """Do something of one's own in a thread, with the manners of a task.

        Args:
            work: receives the task; what it returns becomes its result, and an
                :class:`~imbalanceseg.errors.ImbalanceSegError` its error. It should call
                :meth:`EngineTask.require_wanted` or :meth:`tell` now and then.
            on_done: receives the task.
            on_event: receives what the work tells.
        """
        return self._begin(work, on_event, on_done)

    def tell(self, task: EngineTask, event: ProgressEvent) -> None:
        """Deliver an event of a task, from the thread that works on it.

        Raises:
            Cancelled: nobody wants it any more.
        """
        task.heard()
        task.require_wanted()
        if task.on_event is not None:
            tell = task.on_event
            self._deliveries.put(lambda: tell(event))

    def cancel(self, task: EngineTask) -> None:
        """Stop a task; it ends with the error :class:`~imbalanceseg.errors.Cancelled`."""
        task.want_cancelled()
        if task.job is not None and not task.is_over:
            threading.Thread(target=self._line.stop, args=(task.job,), daemon=True).start()

    def finish(self, task: EngineTask) -> None:
        """Have an adaptation end soon; its result is the best that it has found so far.

        Other jobs go on: they have nothing before they are done.
        """
        task.want_finished()
        if task.job is not None and not task.is_over:
            threading.Thread(target=self._line.finish, args=(task,), daemon=True).start()

    # in the background

    def _job(
        self,
        kind: str,
        scan: Scan,
        options: dict[str, Any],
        asked: dict[str, Any],
        sent: Mapping[str, Painted] | None = None,
        series: Sequence[Path] = (),
        on_preview: PreviewCallback | None = None,
    ) -> EngineTask:
        on_event, on_done = options.pop("on_event", None), options.pop("on_done", None)
        parameters = {**options, **asked}
        run = JobRun(
            self._line,
            self.tell,
            self._deliveries.put,
            kind,
            scan,
            parameters,
            sent or {},
            series,
            on_preview,
        )
        return self._begin(run, on_event, on_done)

    def _download(self, task: EngineTask, path: str, stream: IO[bytes]) -> None:
        def told(size: int) -> None:
            self._line.heard()
            self.tell(task, ProgressEvent("download", size, 0))

        self._line.reached(task, lambda c: c.download(path, stream, MOST_BYTES, told))

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
        # In this order, whoever sees it over finds its last callback by polling, and a client that
        # is not busy has nothing left to deliver.
        self._deliveries.put(task.tell_end)
        task.end(result, error)
        self._tasks.remove(task)


def _sent(
    name: str, image: sitk.Image | None, confirmed: Sequence[tuple[int, int]] = ()
) -> dict[str, Painted]:
    """Labels that go along under a name, or nothing."""
    return {} if image is None else {name: (image, confirmed)}
