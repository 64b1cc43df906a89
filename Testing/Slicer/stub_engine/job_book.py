"""Cases, annotations and jobs of the stub, in memory; each job runs on a thread of its own."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from work import MODELS, Fault, Made, Work

FINAL = ("done", "failed", "cancelled")
_BASES = ("segment", "finetune", "click")


class Stopped(Exception):  # noqa: N818
    """The job was cancelled."""


class JobBook:
    """Everything that clients can ask for.

    Args:
        folder: for files on their way in and out.
        models_folders: hold models that were kept.
    """

    def __init__(self, folder: Path, models_folders: Sequence[Path] = ()) -> None:
        self.folder = folder
        self.cases: dict[str, dict[str, Any]] = {}
        self.images: dict[str, sitk.Image] = {}
        self.annotations: dict[str, dict[str, sitk.Image]] = {}
        self.series: dict[str, dict[int, bytes]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.made: dict[str, Made] = {}
        self.adapted = _kept_models(models_folders)
        self.previews: dict[str, bytes] = {}
        self.finishing: set[str] = set()
        self.news = threading.Condition(threading.RLock())
        self._events: dict[str, list[dict[str, Any]]] = {}
        self._stops: set[str] = set()
        self._begun = time.time()

    def info(self) -> dict[str, Any]:
        running = [job for job in self.jobs.values() if job["state"] == "running"]
        return {
            "name": "ImbalanceSeg",
            "disclaimer": "Not for clinical use.",
            "protocol": 1,
            "version": "0.0.0",
            "versions": {"imbalanceseg": "0.0.0", "torch": None},
            "device": {"name": "cpu", "threads": 1, "memory_gib": 1.0},
            "models": [
                {key: value for key, value in model.items() if key != "threshold"}
                for model in (*MODELS.values(), *self.adapted.values())
            ],
            "limits": {
                "upload_bytes": 2**32,
                "volume_bytes": 2**33,
                "dicom_file_bytes": 2**30,
                "queued_jobs_of_client": 64,
            },
            "queue": {"waiting": 0, "running": len(running)},
            "disk": {"used_bytes": 0, "limit_bytes": 2**30},
            "workers": [os.getpid()],
            "uptime_seconds": round(time.time() - self._begun, 1),
        }

    def keep_case(self, case: str | None, content: bytes) -> dict[str, Any]:
        """Take a scan; without an address one is made of what was sent."""
        image = self._image(content)
        case = case or hashlib.sha256(content).hexdigest()
        self.images[case] = image
        self.cases[case] = {
            "id": case,
            "channels": 1,
            "size": list(image.GetSize()),
            "pixel_type": sitk.GetArrayViewFromImage(image).dtype.name,
            "bytes": len(content),
            "created": time.time(),
        }
        return self.cases[case]

    def keep_annotation(self, case: str, content: bytes) -> dict[str, Any]:
        self.require_case(case)
        image = self._image(content)
        if image.GetSize() != self.images[case].GetSize():
            raise Fault("grid-mismatch", "The annotation is on another grid than the case.")
        annotation = hashlib.sha256(content).hexdigest()
        kept = self.annotations.setdefault(case, {})
        # What was sent last is the latest, also where it was sent before.
        kept.pop(annotation, None)
        kept[annotation] = image
        return self.annotation_view(case, annotation)

    def annotation_view(self, case: str, annotation: str) -> dict[str, Any]:
        return {"id": annotation, "case": case, "bytes": 1, "created": time.time()}

    def annotation(self, case: str, annotation: str | None) -> sitk.Image:
        """One of a case; the latest where none is named."""
        kept = self.annotations.get(case, {})
        if annotation is None and kept:
            return list(kept.values())[-1]
        if annotation not in kept:
            raise Fault(
                "annotation-unknown", "There is no such annotation of the case.", status=404
            )
        return kept[annotation]

    def require_case(self, case: str) -> None:
        if case not in self.cases:
            raise Fault(
                "case-unknown",
                "There is no case of this address here.",
                "Send the scan first.",
                status=404,
            )

    def drop_case(self, case: str) -> None:
        self.require_case(case)
        for kept in (self.cases, self.images, self.annotations, self.series):
            kept.pop(case, None)

    def submit(self, client: str, request: dict[str, Any]) -> dict[str, Any]:
        """Begin a job; asking twice under one number makes one job."""
        number = request.get("id") or secrets.token_hex(16)
        if number in self.jobs:
            return self.jobs[number]
        kind, case, asked = request["kind"], request["case"], dict(request["parameters"])
        self.require_case(case)
        base = self._base(case, asked)
        work = Work(self, kind, case, asked, base)
        job = {
            "id": number,
            "client": client,
            "kind": kind,
            "case": case,
            "parameters": asked,
            "created": time.time(),
            "state": "queued",
            "base": asked.get("base"),
            "started": None,
            "finished": None,
            "fault": None,
            "outcome": {},
            "files": {},
            "last_event": 0,
            "progress": None,
            "waiting": 0,
        }
        with self.news:
            self.jobs[number] = job
            self._events[number] = []
        self._changed(number, state="queued")
        threading.Thread(target=self._run, args=(number, work), daemon=True).start()
        return job

    def job(self, number: str) -> dict[str, Any]:
        if number not in self.jobs:
            raise Fault("job-unknown", "There is no job of this number.", status=404)
        return self.jobs[number]

    def wait(self, number: str, seconds: float) -> None:
        with self.news:
            self.news.wait_for(lambda: self.jobs[number]["state"] in FINAL, seconds)

    def events(self, number: str, after: int) -> list[dict[str, Any]]:
        with self.news:
            return self._events[number][after:]

    def delete(self, number: str) -> int:
        """Stop a job that goes on (202), or delete one that is over (204)."""
        if self.job(number)["state"] in FINAL:
            self.jobs.pop(number)
            self.made.pop(number, None)
            return 204
        self._stops.add(number)
        return 202

    def finish(self, number: str) -> dict[str, Any]:
        """Have an adaptation end soon."""
        self.job(number)
        self.finishing.add(number)
        return self.job(number)

    def show(self, number: str, labels: bytes) -> None:
        """Labels on the way."""
        with self.news:
            self.previews[number] = labels
            self._add(number, {"event": "preview", "number": 1})

    def archive(self, model: str) -> bytes:
        """An adapted model as a zip of its bundle."""
        if model not in self.adapted:
            raise Fault("model-unknown", "No such model was adapted here.", status=404)
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as packed:
            packed.writestr("LICENSE", "Apache-2.0")
            packed.writestr("configs/metadata.json", json.dumps(self.adapted[model]))
        return stream.getvalue()

    def tell(self, number: str, **progress: Any) -> None:
        """One step of a job; ends the job where it was cancelled."""
        if number in self._stops:
            raise Stopped
        told = {"stage": "", "done": 0, "total": 0, "message": "", "metrics": {}, **progress}
        with self.news:
            self.jobs[number]["progress"] = told
            self._add(number, {"event": "progress", **told})

    def _run(self, number: str, work: Work) -> None:
        self._changed(number, state="running", started=time.time())
        try:
            made = work.do(number)
            self.tell(number, stage="write", done=1, total=1)
        except Stopped:
            self._over(number, state="cancelled")
        except Fault as fault:
            self._over(number, state="failed", fault=fault.body)
        except Exception as error:
            body = Fault("internal", f"Something unexpected happened ({error!r}).").body
            self._over(number, state="failed", fault=body)
        else:
            self.made[number] = made
            sizes = {name: len(content) for name, content in made.files.items()}
            self._over(number, state="done", outcome=made.outcome, files=sizes)

    def _over(self, number: str, **changes: Any) -> None:
        self._changed(number, finished=time.time(), progress=None, waiting=None, **changes)

    def _changed(self, number: str, **changes: Any) -> None:
        with self.news:
            self.jobs[number] = {**self.jobs[number], **changes}
            self._add(number, {"event": "state", "job": self.jobs[number]})

    def _add(self, number: str, event: dict[str, Any]) -> None:
        self._events[number].append(event)
        self.jobs[number]["last_event"] = len(self._events[number])
        self.news.notify_all()

    def _base(self, case: str, asked: dict[str, Any]) -> Made | None:
        base = asked.get("base")
        if base is None:
            return None
        job = self.jobs.get(base)
        if job is None or job["kind"] not in _BASES:
            raise Fault("base-unknown", "There is no result of this number to go on from.")
        if job["case"] != case:
            raise Fault("base-of-another-case", "The result to go on from is of another case.")
        if job["state"] != "done":
            raise Fault("base-unfinished", f"The job to go on from is {job['state']}.", status=409)
        return self.made[base]

    def _image(self, content: bytes) -> sitk.Image:
        path = self.folder / f"{secrets.token_hex(8)}.nrrd"
        path.write_bytes(content)
        try:
            return sitk.ReadImage(str(path))
        except RuntimeError as error:
            raise Fault("not-nrrd", "What was sent is no NRRD file.") from error
        finally:
            path.unlink()


def _kept_models(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    found = {}
    for path in (one for folder in folders for one in folder.glob("*/configs/metadata.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        name = path.parents[1].name
        found[name] = {**card, "id": name, "name": name}
    return found
