"""What the stub makes of a scan: bright is the structure, and what was painted counts."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from plain_dicom import segmentation_file

if TYPE_CHECKING:
    from job_book import JobBook

BRIGHT, BRIGHTER = 1000.0, 1600.0
"""From here on a voxel has label 1; of the model ``two-classes``, and from there on label 2."""
SECONDS_OF_STEP = 0.01
_UNLABELLED = 255
_ANATOMICAL = {"value": "123037004", "meaning": "Anatomical Structure", "scheme": "SCT"}
_AIRWAY = {"value": "110726009", "meaning": "Trachea and bronchus", "scheme": "SCT"}
_TRACHEA = {"value": "44567001", "meaning": "Trachea", "scheme": "SCT"}


class Fault(Exception):  # noqa: N818
    """Why something is refused or has failed, as the protocol says it."""

    def __init__(self, code: str, message: str, hint: str = "", status: int = 422) -> None:
        super().__init__(message)
        self.body = {"code": code, "message": message, "hint": hint}
        self.status = status


@dataclass
class Made:
    """What a job leaves: for the client, and for jobs that go on from it."""

    outcome: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    model: str = ""
    labels: np.ndarray | None = None
    annotation: np.ndarray | None = None


def _segment(label: int, name: str, kind: dict[str, str], color: list[int]) -> dict[str, Any]:
    coded = {"category": _ANATOMICAL, "type": kind, "region": None}
    return {"label": label, "name": name, "color": color, **coded}


_ONE = [_segment(1, "Airway tree", _AIRWAY, [128, 196, 226])]
_TWO = [*_ONE, _segment(2, "Trachea", _TRACHEA, [250, 140, 90])]


def _model(name: str, title: str, segments: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "version": "1.0",
        "title": title,
        "description": "Thresholds.",
        "intended_use": "Tests.",
        "modality": "CT",
        "body_part": "Chest",
        "channels": ["CT"],
        "spatial_dims": 3,
        "segments": segments,
        "limitations": [],
        "license": "Apache-2.0",
        "disclaimer": "Not for clinical use.",
        "case": None,
        "measured": {"seconds": 0.5, "memory_mib": 100, "jobs": 3},
        "measured_on": {"cpu": {"seconds": 0.5, "memory_mib": 100, "jobs": 3}},
        "sha256": ["0" * 64],
        "adapted": None,
    }


MODELS = {
    "airway": _model("airway", "Airway tree", _ONE),
    "two-classes": _model("two-classes", "Airway tree and trachea", _TWO),
    "endless": _model("endless", "Never ready", _ONE),
    "failing": _model("failing", "Runs out of memory", _ONE),
    "dying": _model("dying", "Takes the engine along", _ONE),
}


class Work:
    """One job of the stub.

    Args:
        book: where cases and annotations are.
        kind: of the job.
        case: address of the scan.
        asked: parameters.
        base: what it goes on from.
    """

    def __init__(
        self, book: JobBook, kind: str, case: str, asked: dict[str, Any], base: Made | None
    ) -> None:
        kinds: dict[str, Callable[[], Made]] = {
            "segment": self._segment,
            "finetune": self._finetune,
            "click": self._click,
            "suggest": self._suggest,
            "evaluate": self._evaluate,
            "dicom-seg": self._dicom_seg,
        }
        if kind not in kinds:
            raise Fault("request-invalid", f"There are no jobs of the kind {kind}.")
        self._do, self._book, self._case, self._asked, self._base = (
            kinds[kind],
            book,
            case,
            asked,
            base,
        )
        self._number = ""
        self._model = asked.get("model") or (base.model if base else "")
        if kind == "segment" and self._model not in {*MODELS, *book.adapted}:
            raise Fault("model-unknown", "There is no such model here.", status=404)
        if kind == "dicom-seg" and case not in book.series:
            raise Fault("dicom-seg-needs-series", "No file of the DICOM series was sent.")

    def do(self, number: str) -> Made:
        """Do it, telling of every step."""
        self._number = number
        return self._do()

    @property
    def _image(self) -> sitk.Image:
        return self._book.images[self._case]

    @property
    def _voxels(self) -> np.ndarray:
        return sitk.GetArrayFromImage(self._image).astype(np.float32)

    def _tell(self, **progress: Any) -> None:
        self._book.tell(self._number, **progress)
        time.sleep(SECONDS_OF_STEP)

    def _segment(self) -> Made:
        steps = 10**9 if self._model == "endless" else 3
        for step in range(steps):
            self._tell(stage="tiles", done=min(step, 2), total=3, message="Segmenting")
        if self._model == "failing":
            raise Fault("out-of-memory", "There is not enough memory.", "Close other programs.")
        if self._model == "dying":
            os._exit(9)
        adapted = self._book.adapted.get(self._model)
        labels = self._thresholded(adapted["threshold"] if adapted else BRIGHT)
        if self._asked.get("roi"):
            labels[~self._inside(self._asked["roi"])] = 0
        maps = ("hardness",) if self._asked.get("maps") is None else self._asked["maps"]
        return self._result(labels, tuple(maps), self._model)

    def _finetune(self) -> Made:
        annotation = self._annotation()
        steps = max(3, min(20, int(self._asked.get("seconds", 60) / SECONDS_OF_STEP / 10)))
        for step in range(steps):
            if self._number in self._book.finishing:
                break
            loss = 1.0 / (1 + step)
            self._tell(
                stage="finetune",
                done=step,
                total=steps,
                message=f"round 1: loss {loss:.3f}",
                metrics={"loss": loss, "held_out_dice": 1 - loss / 2},
            )
            if self._asked.get("preview") and step == 1:
                shown = self._like(self._thresholded(BRIGHT))
                self._book.show(self._number, self._content(shown))
        voxels = self._voxels
        painted = annotation != _UNLABELLED
        bright = voxels[painted & (annotation > 0)]
        dark = voxels[painted & (annotation == 0)]
        threshold = BRIGHT
        if bright.size and dark.size:
            threshold = (float(bright.mean()) + float(dark.mean())) / 2
        labels = self._thresholded(threshold)
        labels[painted] = annotation[painted]
        name = f"adapted-{self._number[:16]}"
        parent = MODELS.get(self._model, MODELS["airway"])
        card = {**parent, "id": name, "name": name, "case": self._case, "threshold": threshold}
        self._book.adapted[name] = card
        made = self._result(labels, ("hardness",), name)
        made.annotation = annotation
        kept = sitk.GetImageFromArray(annotation)
        kept.CopyInformation(self._image)
        made.files["annotation.nrrd"] = self._content(kept)
        history = [{"seconds": 0.1, "stage": "round 1", "loss": 0.5, "dice": 0.75}]
        made.outcome |= {"model": name, "annotation": secrets.token_hex(32), "history": history}
        return made

    def _click(self) -> Made:
        assert self._base is not None
        labels, label = self._base.labels.copy(), int(self._asked["label"])
        ball = self._ball(self._asked["point_mm"], float(self._asked.get("radius_mm", 1.5)))
        if not ball.any():
            raise Fault("click-outside", "The click lies outside the scan.", "Click in the scan.")
        labels[ball] = label
        annotation = self._base.annotation
        annotation = np.full_like(labels, _UNLABELLED) if annotation is None else annotation.copy()
        annotation[ball] = label
        differs = labels != self._base.labels
        outcome: dict[str, Any] = {
            "changed_voxels": int(differs.sum()),
            "conflict": None,
            "seconds": 0.01,
            "start": None,
            "size": None,
        }
        made = Made(outcome, {}, self._base.model, labels, annotation)
        if differs.any():
            low = [int(n) for n in np.argwhere(differs).min(0)]
            high = [int(n) + 1 for n in np.argwhere(differs).max(0)]
            box = self._like(labels)[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
            outcome["start"] = low[::-1]
            outcome["size"] = [b - a for a, b in zip(low, high, strict=True)][::-1]
            made.files["changed.nrrd"] = self._content(box)
        return made

    def _suggest(self) -> Made:
        named = self._asked.get("annotation")
        image = self._book.annotation(self._case, named) if named else None
        painted = set() if image is None else confirmed_slices(image)
        hard = self._hardness()
        scores = []
        for axis in range(3):
            sums = hard.sum(axis=tuple(n for n in range(3) if n != 2 - axis))
            scores += [(float(value), axis, index) for index, value in enumerate(sums)]
        free = [one for one in sorted(scores, reverse=True) if one[1:] not in painted]
        best = free[: int(self._asked.get("n", 5))]
        most = best[0][0] if best and best[0][0] > 0 else 1.0
        suggestions = [
            {"axis": axis, "index": index, "score": value / most, "reason": "many hard voxels"}
            for value, axis, index in best
        ]
        return Made({"suggestions": suggestions})

    def _evaluate(self) -> Made:
        reference = sitk.GetArrayFromImage(
            self._book.annotation(self._case, self._asked["reference"])
        )
        labels = self._labels()
        both = 2 * np.count_nonzero((labels > 0) & (reference > 0))
        total = np.count_nonzero(labels) + np.count_nonzero(reference)
        return Made({"figures": {"dice": both / total if total else 1.0}})

    def _dicom_seg(self) -> Made:
        self._tell(stage="write", done=0, total=1, message="segmentation.dcm")
        first = self._book.series[self._case][min(self._book.series[self._case])]
        return Made({}, {"segmentation.dcm": segmentation_file(first, self._labels())})

    def _labels(self) -> np.ndarray:
        if named := self._asked.get("labels"):
            return sitk.GetArrayFromImage(self._book.annotation(self._case, named))
        assert self._base is not None
        return self._base.labels

    def _annotation(self) -> np.ndarray:
        if self._asked.get("annotation") or self._base is None or self._base.annotation is None:
            image = self._book.annotation(self._case, self._asked.get("annotation"))
            labels = sitk.GetArrayFromImage(image)
            for axis, index in confirmed_slices(image):
                plane = labels[tuple(index if n == 2 - axis else slice(None) for n in range(3))]
                plane[plane == _UNLABELLED] = 0
            return labels
        return self._base.annotation

    def _thresholded(self, threshold: float) -> np.ndarray:
        voxels = self._voxels
        labels = (voxels >= threshold).astype(np.uint8)
        if self._model == "two-classes":
            labels[voxels >= BRIGHTER] = 2
        return labels

    def _hardness(self) -> np.ndarray:
        """Hard is what is close to the threshold."""
        return np.exp(-(((self._voxels - BRIGHT) / 300.0) ** 2)).astype(np.float32)

    def _result(self, labels: np.ndarray, maps: tuple[str, ...], model: str) -> Made:
        segments = _TWO if self._model == "two-classes" else _ONE
        report: dict[str, Any] = {
            "schema_version": 1,
            "disclaimer": "Not for clinical use.",
            "model": {"name": model, "version": "1.0"},
            "segments": segments,
            "notes": ["Made by thresholding."],
        }
        made = Made({}, {}, model, labels)
        made.files["labels.nrrd"] = self._content(self._like(labels))
        values = {"hardness": self._hardness(), "attention": (labels > 0).astype(np.float32)}
        for name in maps:
            if name == "attention-levels":
                made.files["attention_1.nrrd"] = self._content(self._like(values["attention"]))
            else:
                made.files[f"{name}.nrrd"] = self._content(self._like(values[name]))
        report["files"] = [*made.files, "report.json"]
        made.files["report.json"] = json.dumps(report).encode("utf-8")
        made.outcome = {
            "segments": segments,
            "seconds": {"tiles": 0.1},
            "total_seconds": 0.1,
            "peak_memory_mib": 100.0,
            "device": "cpu",
            "backend": "threshold",
            "notes": report["notes"],
        }
        return made

    def _places(self) -> np.ndarray:
        """LPS mm of every voxel, ``[k, j, i, 3]``."""
        image = self._image
        k, j, i = np.indices(image.GetSize()[::-1])
        steps = np.stack([i, j, k], -1) * np.asarray(image.GetSpacing())
        direction = np.asarray(image.GetDirection()).reshape(3, 3)
        return steps @ direction.T + np.asarray(image.GetOrigin())

    def _ball(self, point: list[float], radius: float) -> np.ndarray:
        """Voxels whose centre is so near, and the one that holds the point."""
        ball = np.linalg.norm(self._places() - np.asarray(point), axis=-1) <= radius
        index = self._image.TransformPhysicalPointToIndex(point)
        if all(0 <= n < size for n, size in zip(index, self._image.GetSize(), strict=True)):
            ball[index[::-1]] = True
        return ball

    def _inside(self, roi: list[list[float]]) -> np.ndarray:
        corners = np.asarray(roi, float)
        places = self._places()
        return ((places >= corners.min(0)) & (places <= corners.max(0))).all(-1)

    def _like(self, values: np.ndarray) -> sitk.Image:
        image = sitk.GetImageFromArray(values)
        image.CopyInformation(self._image)
        return image

    def _content(self, image: sitk.Image) -> bytes:
        path = self._book.folder / f"{secrets.token_hex(8)}.nrrd"
        sitk.WriteImage(image, str(path), True)
        try:
            return path.read_bytes()
        finally:
            path.unlink()


def confirmed_slices(annotation: sitk.Image) -> set[tuple[int, int]]:
    """Axis and index of every slice that the header calls finished."""
    key = "ImbalanceSeg_ConfirmedSlices"
    if not annotation.HasMetaDataKey(key):
        return set()
    return {(int(axis), int(index)) for axis, index in json.loads(annotation.GetMetaData(key))}
