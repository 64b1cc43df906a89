"""One job from what it needs to what comes of it, on a thread of its own."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from imbalanceseg.client.http import Connection, EngineError, EngineUnreachable
from imbalanceseg.client.line import Line
from imbalanceseg.client.previews import Previews
from imbalanceseg.client.sender import Painted, Scan, Sender, Tell
from imbalanceseg.client.task import EngineTask, JobResult
from imbalanceseg.client.volumes import image_of
from imbalanceseg.errors import Cancelled
from imbalanceseg.progress import ProgressEvent

_FINAL = ("done", "failed", "cancelled")
_QUICK = ("click", "suggest")
_SECONDS_TO_WAIT = 5
PreviewCallback = Callable[[sitk.Image], None]


class JobRun:
    """Asks for a job, follows it and fetches its results.

    Args:
        line: to the engine.
        tell: receives progress.
        deliver: has something called on the thread of the user.
        kind: of the job.
        scan: that it is about.
        parameters: of the job; ``base`` may be a task that still runs.
        sent: parameters that are labels to be sent first.
        series: files of a DICOM series whose headers are sent first.
        on_preview: receives labels on the way, or None.
    """

    def __init__(
        self,
        line: Line,
        tell: Tell,
        deliver: Callable[[Callable[[], None]], None],
        kind: str,
        scan: Scan,
        parameters: Mapping[str, Any],
        sent: Mapping[str, Painted],
        series: Sequence[Path],
        on_preview: PreviewCallback | None,
    ) -> None:
        self._line, self._tell, self._deliver = line, tell, deliver
        self._kind, self._scan, self._parameters = kind, scan, dict(parameters)
        self._sent, self._series, self._on_preview = sent, series, on_preview
        if on_preview is not None:
            self._parameters["preview"] = True

    def __call__(self, task: EngineTask) -> JobResult:
        """Go through all of it; errors as the engine tells them."""
        sender = Sender(self._line, self._tell)
        case = sender.case(task, self._scan)
        parameters = dict(self._parameters)
        for name, painted in self._sent.items():
            parameters[name] = sender.annotation(task, case, painted)
        sender.series(task, case, self._series)
        if "base" in parameters:
            parameters["base"] = _number_of(task, parameters["base"])
        stands = self._asked(task, case, parameters)
        if stands["state"] not in _FINAL:
            stands = self._followed(task, stands["id"])
        return self._fetched(task, stands)

    def _asked(
        self, task: EngineTask, case: str, parameters: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        job = task.job = secrets.token_hex(16)
        request = {"kind": self._kind, "case": case, "id": job, "parameters": parameters}
        # A click is answered within the request; a long job tells of itself.
        wait = {"wait": _SECONDS_TO_WAIT} if self._kind in _QUICK else None
        answer = self._line.reached(
            task, lambda c: c.call("POST", "/v1/jobs", request, params=wait)
        )
        if task.is_cancelled:
            # It may have been stopped before the engine knew of it.
            self._line.stop(job)
        stands: Mapping[str, Any] = answer.json()
        return stands

    def _followed(self, task: EngineTask, job: str) -> Mapping[str, Any]:
        """Listen until a job is over; through cut lines, and through a new start of the engine."""
        after = 0
        previews = None
        if self._on_preview is not None:
            fetch = partial(self._preview, task, job)
            previews = Previews(task, fetch, self._on_preview, self._deliver)

        def listen(connection: Connection) -> Mapping[str, Any]:
            nonlocal after
            if task.is_finishing:
                # It may have been said before the engine knew of the job, or before it died.
                with contextlib.suppress(EngineError):
                    connection.call("POST", f"/v1/jobs/{job}/finish")
            for number, data in connection.events(job, self._line.heard, after):
                after = number
                task.heard()
                if data["event"] == "progress":
                    with contextlib.suppress(Cancelled):
                        self._tell(task, _progress(data))
                elif data["event"] == "preview" and previews is not None:
                    previews.announce()
                elif data["event"] == "state" and data["job"]["state"] in _FINAL:
                    return dict(data["job"])
            raise EngineUnreachable("the stream of events ended")

        return self._line.reached(task, listen)

    def _preview(self, task: EngineTask, job: str) -> sitk.Image:
        path = f"/v1/jobs/{job}/preview"
        return image_of(self._line.reached(task, lambda c: c.call("GET", path)).content)

    def _fetched(self, task: EngineTask, job: Mapping[str, Any]) -> JobResult:
        if job["state"] == "cancelled":
            raise Cancelled
        if job["state"] == "failed":
            raise EngineError(**job["fault"])
        images: dict[str, sitk.Image] = {}
        files: dict[str, bytes] = {}
        for name in job["files"]:
            path = f"/v1/jobs/{job['id']}/results/{name}"
            content = self._line.reached(task, partial(_get, path=path)).content
            if name.endswith(".nrrd"):
                images[name.removesuffix(".nrrd")] = image_of(content)
            else:
                files[name] = content
        return JobResult(str(job["id"]), job["outcome"], images, files)


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
