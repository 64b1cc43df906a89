"""What a worker keeps warm, models and the scans at hand, and the jobs it does with them."""

from __future__ import annotations

import gc
import itertools
import math
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SimpleITK as sitk

from imbalanceseg.errors import ImbalanceSegError, InputError
from imbalanceseg.io import read_image
from imbalanceseg.privacy import deidentified
from imbalanceseg.progress import ProgressCallback, ProgressEvent
from imbalanceseg.server.result_files import (
    paste,
    remove_preview,
    write_changed,
    write_preview,
    write_results,
)
from imbalanceseg.session import Session

if TYPE_CHECKING:
    from imbalanceseg.annotation.annotation import Annotation
    from imbalanceseg.inference.segmentation import Segmentation
    from imbalanceseg.models.bundle import Model

Task = Mapping[str, Any]
"""A job with the places of everything it needs; see
:meth:`~imbalanceseg.server.service.EngineService.task_of`."""

_MOST_SCANS = 3
_MOST_MODELS = 4
_LEAST_FREE_SHARE = 0.25


@dataclass
class _Scan:
    """A session, and the job that has brought it to where it stands."""

    session: Session
    job: str = ""


class Workbench:
    """Does one task after another, and keeps what the next one may need.

    Args:
        enough: asked while an adaptation runs; yes ends it with the best so far.
    """

    def __init__(self, enough: Callable[[], bool] = lambda: False) -> None:
        self._enough = enough
        self._scans: OrderedDict[str, _Scan] = OrderedDict()
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._jobs: dict[str, Callable[[Task, ProgressCallback], dict[str, Any]]] = {
            "segment": self._segment,
            "finetune": self._finetune,
            "click": self._click,
            "prepare": self._prepare,
            "suggest": self._suggest,
            "evaluate": self._evaluate,
            "dicom-seg": self._dicom_seg,
        }

    def run(self, task: Task, tell: ProgressCallback) -> dict[str, Any]:
        """Do a task, and return the figures of its outcome; its files lie in ``task["folder"]``."""
        try:
            return self._jobs[task["kind"]](task, tell)
        except ImbalanceSegError:
            # A session that refuses is what it was before.
            raise
        except BaseException:
            self._scans.pop(task["case"], None)
            raise
        finally:
            self._make_room()

    def model(self, place: Mapping[str, str]) -> Model:
        """A model with its networks in memory, by ``"id"`` and ``"path"``."""
        from imbalanceseg.models.bundle import load_model

        model = self._models.get(place["id"])
        if model is None:
            model = load_model(place["path"])
            _ = model.networks
            self._models[place["id"]] = model
        self._models.move_to_end(place["id"])
        return model

    def _segment(self, task: Task, tell: ProgressCallback) -> dict[str, Any]:
        settings = dict(task["parameters"])
        model = self.model(task["model"])
        scan = self._scan(task, tell)
        device, maps = settings.pop("device"), settings.pop("maps")
        scan.session.segment(model, device=device, maps=maps, progress=tell, **settings)
        scan.job = task["id"]
        return write_results(scan.session, Path(task["folder"]), tell)

    def _finetune(self, task: Task, tell: ProgressCallback) -> dict[str, Any]:
        from imbalanceseg.annotation.files import load_annotation, save_annotation

        settings = dict(task["parameters"])
        folder = Path(task["folder"])
        model = self.model(task["model"]) if task["model"] else None
        scan = self._at(task, tell) if task["chain"] else self._scan(task, tell)
        session = scan.session
        if task["annotation"]:
            session.annotation = load_annotation(task["annotation"], session.image)
        if settings["names"] is not None:
            # JSON knows no numbers as keys.
            settings["names"] = {int(label): name for label, name in settings["names"].items()}
        checkpoint = Path(task["checkpoint"])
        preview = Path(task["preview"]) if task["preview"] else None
        tuned = session.finetune(
            model,
            settings.pop("device"),
            tell,
            checkpoint=checkpoint,
            resume=checkpoint.exists(),
            enough=self._enough,
            preview=_shown_in(preview, tell) if preview else None,
            **settings,
        )
        if preview:
            remove_preview(preview)
        session.forget_earlier()
        scan.job = task["id"]
        tell(ProgressEvent("write", 0, 1, "model"))
        tuned.save(folder / "model")
        save_annotation(session.annotation, folder / "annotation.nrrd")
        outcome = write_results(session, folder, tell)
        return outcome | {"history": [asdict(step) for step in tuned.history[-100:]]}

    def _prepare(self, task: Task, tell: ProgressCallback) -> dict[str, Any]:
        self._at(task, tell).session.prepare_clicks(task["parameters"]["device"])
        return {}

    def _click(self, task: Task, tell: ProgressCallback) -> dict[str, Any]:
        asked = task["parameters"]
        scan = self._at(task, tell)
        session = scan.session
        assert session.result is not None
        before = session.result.labels
        session.prepare_clicks(asked["device"])
        begun = time.perf_counter()
        clicked = session.click(asked["point_mm"], asked["label"], radius_mm=asked["radius_mm"])
        seconds = time.perf_counter() - begun
        session.forget_earlier()
        scan.job = task["id"]
        box = write_changed(before, clicked.labels, Path(task["folder"]))
        conflict = None if clicked.conflict is None else str(clicked.conflict)
        told = {"changed_voxels": clicked.changed_voxels, "conflict": conflict, "seconds": seconds}
        return {**told, **box}

    def _suggest(self, task: Task, tell: ProgressCallback) -> dict[str, Any]:
        from imbalanceseg.annotation.files import load_annotation
        from imbalanceseg.annotation.suggest import suggest_slices

        session = self._at(task, tell).session
        assert session.result is not None
        annotation = session.annotation
        if task["annotation"]:
            annotation = load_annotation(task["annotation"], session.image)
        found = suggest_slices(session.result, annotation, task["parameters"]["n"])
        return {"suggestions": [asdict(one) for one in found]}

    def _evaluate(self, task: Task, tell: ProgressCallback) -> dict[str, Any]:
        from imbalanceseg.metrics.evaluate import DEFAULT_METRICS, evaluate

        asked = task["parameters"]
        metrics = DEFAULT_METRICS if asked["metrics"] is None else asked["metrics"]
        prediction = self._labels(task, tell)
        reference = read_image(task["reference"])
        tell(ProgressEvent("evaluate", 0, 1))
        figures = evaluate(prediction, reference, metrics, asked["values"], asked["tolerance_mm"])
        return {"figures": {k: v if math.isfinite(v) else None for k, v in figures.items()}}

    def _dicom_seg(self, task: Task, tell: ProgressCallback) -> dict[str, Any]:
        from imbalanceseg.dicom.seg import write_dicom_seg
        from imbalanceseg.models.bundle import load_model

        labels = self._labels(task, tell)
        model = load_model(task["model"]["path"])
        root, *clicks = task["chain"]
        by_hand = bool(clicks) or root["annotation"] is not None
        tell(ProgressEvent("write", 0, 1, "segmentation.dcm"))
        write_dicom_seg(
            labels,
            task["series"],
            Path(task["folder"]) / "segmentation.dcm",
            model.segments,
            algorithm_name=f"ImbalanceSeg {model.name}",
            algorithm_version=model.version,
            made_by=(
                "semiautomatic" if by_hand or task["parameters"]["corrected"] else "automatic"
            ),
        )
        if deidentified():
            # The headers name the patient; whoever wants another one sends them again.
            shutil.rmtree(task["series"])
        return {}

    def _labels(self, task: Task, tell: ProgressCallback) -> sitk.Image:
        """Those that were sent, or those of the job that is gone on from."""
        if task["annotation"]:
            return read_image(task["annotation"])
        result = self._at(task, tell).session.result
        assert result is not None
        return result.labels

    def _scan(self, task: Task, tell: ProgressCallback) -> _Scan:
        """The scan of a task, read where it is not at hand."""
        scan = self._scans.pop(task["case"], None)
        if scan is None:
            self._make_room(_MOST_SCANS - 1)
            tell(ProgressEvent("read", 0, 1))
            images = [_read_channel(path) for path in task["images"]]
            scan = _Scan(Session(images[0], "case", channels=images[1:]))
        self._scans[task["case"]] = scan
        return scan

    def _at(self, task: Task, tell: ProgressCallback) -> _Scan:
        """The scan of a task as the job left it that is gone on from."""
        scan = self._scan(task, tell)
        at_hand = scan.job == task["chain"][-1]["id"]
        return scan if at_hand else self._rebuilt(task, scan, tell)

    def _rebuilt(self, task: Task, scan: _Scan, tell: ProgressCallback) -> _Scan:
        """From files: the result that the clicks began with, and what each click has changed."""
        from imbalanceseg.annotation.annotation import Annotation
        from imbalanceseg.annotation.files import load_annotation
        from imbalanceseg.inference.segmentation import Segmentation

        tell(ProgressEvent("read", 0, 1, "earlier result"))
        root, *clicks = task["chain"]
        model = self.model(root["model"])
        session = scan.session
        if session.model is not model:
            # What clicks need was made for another model.
            session = Session(session.image, session.name, channels=session.channels)
        labels = read_image(root["labels"])
        annotation: Annotation = Annotation.of(session.image)
        if root["annotation"]:
            annotation = load_annotation(root["annotation"], session.image)
        for click in clicks:
            annotation.click(click["point_mm"], click["label"], click["radius_mm"])
            if click["changed"]:
                labels = paste(read_image(click["changed"]), labels)
        session.model = model
        session.annotation = annotation
        session.result = Segmentation(
            labels=labels,
            segments=model.segments,
            model_name=model.name,
            model_version=model.version,
            hardness=read_image(root["hardness"]) if root["hardness"] else None,
        )
        scan = self._scans[task["case"]] = _Scan(session, task["chain"][-1]["id"])
        return scan

    def _make_room(self, most_scans: int = _MOST_SCANS) -> None:
        while len(self._models) > _MOST_MODELS:
            self._models.popitem(last=False)
        while len(self._scans) > most_scans or (len(self._scans) > 1 and _memory_is_short()):
            self._scans.popitem(last=False)
            gc.collect()


def _shown_in(file: Path, tell: ProgressCallback) -> Callable[[Segmentation], None]:
    """What keeps the labels of the latest preview in a file, and tells of each."""
    numbers = itertools.count(1)

    def show(result: Segmentation) -> None:
        try:
            write_preview(result, file)
        except (OSError, RuntimeError):
            # Nothing is lost with it.
            return
        number = next(numbers)
        tell(ProgressEvent("preview", number, number))

    return show


def _read_channel(path: str) -> sitk.Image:
    try:
        return read_image(path)
    except InputError as error:
        raise InputError(
            error.code,
            "The scan that was sent cannot be read.",
            "Send it again, as a volume of numbers.",
        ) from error


def _memory_is_short() -> bool:
    import psutil

    memory = psutil.virtual_memory()
    return bool(memory.available < _LEAST_FREE_SHARE * memory.total)


def device_facts() -> dict[str, Any]:
    """What this process computes on; loads torch."""
    import torch

    from imbalanceseg.reporting.environment import free_memory_gib

    facts: dict[str, Any] = {
        "name": "cpu",
        "threads": torch.get_num_threads(),
        "memory_gib": round(free_memory_gib(), 1),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        facts |= {
            "name": "cuda",
            "gpu": torch.cuda.get_device_name(),
            "gpu_memory_gib": round(total / 2**30, 1),
            "gpu_memory_free_gib": round(free / 2**30, 1),
        }
    return facts
