"""What clients of MONAI Label get to read."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import imbalanceseg
from imbalanceseg.server.monai_label.catalogue import Image, Session
from imbalanceseg.server.monai_label.clicks import SUFFIX
from imbalanceseg.server.monai_label.desk import (
    STRATEGIES,
    TRAINING_SECONDS,
    MonaiLabelDesk,
    label_names,
)
from imbalanceseg.server.records import Job, JobState

_EXTENSION = ".nrrd"
_STATUS = {
    JobState.QUEUED: "SUBMITTED",
    JobState.RUNNING: "RUNNING",
    JobState.DONE: "DONE",
    JobState.FAILED: "ERROR",
    JobState.CANCELLED: "STOPPED",
}


def app_info(desk: MonaiLabelDesk) -> dict[str, Any]:
    """Of ``GET /info/``: models, trainers, strategies, and how far labelling and training are."""
    models = desk.models()
    names = {image.case: name for name, image in desk.catalogue.images().items()}
    labels = list(dict.fromkeys(name for model in models.values() for name in label_names(model)))
    return {
        "name": "ImbalanceSeg",
        "description": "Segmentation of what is small, rare and scattered. Not for clinical use.",
        "version": imbalanceseg.__version__,
        "labels": labels,
        "models": {
            name + ending: _model(model, names) | {"type": kind}
            for ending, kind in (("", "segmentation"), (SUFFIX, "deepgrow"))
            for name, model in models.items()
        },
        "trainers": {
            name: {
                "description": f"Adapt {name} to the image that was labelled last.",
                "config": {"seconds": TRAINING_SECONDS},
            }
            for name in models
        },
        "strategies": {name: {"description": text} for name, text in STRATEGIES.items()},
        "scoring": {},
        "train_stats": _train_stats(desk),
        "datastore": datastore_stats(desk),
    }


def datastore_stats(desk: MonaiLabelDesk) -> dict[str, Any]:
    """How many images there are, and how many have a label."""
    images = desk.catalogue.images().values()
    tags = Counter(tag for image in images for tag in image.labels)
    return {
        "total": len(images),
        "completed": sum(bool(image.labels) for image in images),
        "label_tags": dict(tags),
    }


def datastore_view(desk: MonaiLabelDesk) -> dict[str, Any]:
    """All images with their labels."""
    return {
        "name": "ImbalanceSeg",
        "description": "",
        "images_dir": "",
        "labels_dir": "",
        "objects": {
            name: {
                "image": {"ext": _EXTENSION, "info": image_info(name, image)},
                "labels": {
                    tag: {"ext": _EXTENSION, "info": label_info(name, image, tag)}
                    for tag in image.labels
                },
            }
            for name, image in desk.catalogue.images().items()
        },
    }


def image_info(name: str, image: Image) -> dict[str, Any]:
    """What is known of an image."""
    proposed = {strategy: {"ts": int(when)} for strategy, when in image.proposed.items()}
    return {"ts": int(image.added), "name": f"{name}{_EXTENSION}", "strategy": proposed}


def label_info(name: str, image: Image, tag: str) -> dict[str, Any]:
    """What is known of a label."""
    label = image.labels[tag]
    told = {"ts": int(label.saved), "name": f"{name}{_EXTENSION}"}
    return told | {"params": {"label_names": dict(label.names)}}


def session_info(number: str, session: Session) -> dict[str, Any]:
    """What is known of a session; where it lies is told to nobody."""
    return {
        "name": number,
        "path": "",
        "image": "",
        "meta": {},
        "create_ts": int(session.created),
        "last_access_ts": int(session.used),
        "expiry": session.expiry,
    }


def training_view(desk: MonaiLabelDesk, job: Job) -> dict[str, Any]:
    """How a training stands."""
    view: dict[str, Any] = {
        "id": job.id,
        "status": _STATUS[job.state],
        "request": {"model": job.parameters["model"]},
        "start_ts": _clock(job.started or job.created),
        "details": [_detail(desk, job)],
    }
    if job.finished is not None:
        view["end_ts"] = _clock(job.finished)
    if job.state is JobState.DONE:
        view["result"] = {"model": job.outcome["model"]}
    return view


def _model(model: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    description = f"{model['title']}. {model['description']}"
    if model["case"] is not None:
        whom = names.get(model["case"])
        description = f"Adapted to {f'image {whom}' if whom else 'one image'}, for it alone."
    return {
        "labels": label_names(model),
        "dimension": 3,
        "description": description,
        "config": {},
    }


def _train_stats(desk: MonaiLabelDesk) -> dict[str, dict[str, Any]]:
    """Of the training asked for last; clients draw a bar of it."""
    for job in desk.trainings()[:1]:
        done, total = _steps(desk, job)
        stats: dict[str, Any] = {"epoch": done, "total_epochs": total, "best_metric": 0}
        if job.finished is not None:
            stats["total_time"] = round(job.finished - (job.started or job.finished), 1)
        return {str(job.parameters["model"]): stats}
    return {}


def _steps(desk: MonaiLabelDesk, job: Job) -> tuple[int, int]:
    progress = desk.service.jobs.view(job)["progress"] or {}
    total = max(1, int(progress.get("total") or 1))
    return min(total, int(progress.get("done") or 0)), total


def _detail(desk: MonaiLabelDesk, job: Job) -> str:
    if job.state is JobState.DONE:
        return f"The adapted model is {job.outcome['model']}."
    if job.fault is not None:
        return f"error[{job.fault.code}]: {job.fault.message} {job.fault.hint}".strip()
    done, total = _steps(desk, job)
    return f"{done} of {total} steps" if job.state is JobState.RUNNING else str(job.state)


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
