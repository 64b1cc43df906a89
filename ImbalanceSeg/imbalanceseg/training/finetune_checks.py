"""What an adaptation must be given, and by what it is known again."""

from __future__ import annotations

import hashlib
from typing import Any, Literal, get_args

import numpy as np

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.errors import InputError
from imbalanceseg.models.bundle import Model

Depth = Literal["auto", "head", "decoder", "all"]


def annotation_sha256(annotation: Annotation) -> str:
    """Of the labels, the confirmed slices and the classes."""
    digest = hashlib.sha256(np.ascontiguousarray(annotation.labels).tobytes())
    confirmed = sorted((one.axis, one.index) for one in annotation.confirmed)
    digest.update(repr((annotation.labels.shape, confirmed, annotation.classes)).encode())
    return digest.hexdigest()


def require_settings(depth: str, seconds: float, iterations: int | None) -> None:
    """Refuse a depth that does not exist and time that is none.

    Raises:
        InputError: ``depth-unknown`` or ``time-invalid``.
    """
    if depth not in get_args(Depth):
        raise InputError(
            "depth-unknown",
            f"There is no depth {depth!r}.",
            f"Depths are {', '.join(get_args(Depth))}.",
        )
    if not 0 < seconds < 86_400 or (iterations is not None and iterations < 1):
        raise InputError(
            "time-invalid",
            f"{seconds:g} seconds and {iterations} iterations are no time to adapt in.",
            "Give more than 0 seconds, and at least one iteration.",
        )


def require_labels(annotation: Annotation, parent: Model | None) -> int:
    """Classes, background included, after a check that something can be learned.

    Raises:
        InputError: ``annotation-empty``, ``annotation-one-class`` or ``annotation-class-unknown``.
    """
    if not annotation.known.any():
        raise InputError(
            "annotation-empty",
            "Nothing is labelled in this scan yet.",
            "Paint a slice and confirm it, or click a point.",
        )
    values = annotation.values
    most = max([*values, *(annotation.classes or ())], default=1)
    if parent is None:
        if not values or not (annotation.labels == 0).any():
            what = "background" if not values else "foreground"
            raise InputError(
                "annotation-one-class",
                f"Only {what} is labelled; without a model both are needed.",
                "Confirm a slice that shows some of each.",
            )
        return most + 1
    if most > len(parent.segments):
        raise InputError(
            "annotation-class-unknown",
            f"The annotation has label {most}, and the {parent.name} model knows "
            f"{len(parent.segments)} segment(s).",
            "Use the labels of the model, or start without one.",
        )
    return len(parent.segments) + 1


def origin(parent: Model | None, annotation: Annotation) -> dict[str, Any]:
    """What a model is adapted from and to, for :class:`~imbalanceseg.models.card.Adaptation`."""
    return {
        "parent": "" if parent is None else f"{parent.name} {parent.version}",
        "parent_sha256": "" if parent is None else parent.card.weights[0].sha256,
        "annotation_sha256": annotation_sha256(annotation),
        "labelled_voxels": int(annotation.known.sum()),
        "slices": len(annotation.confirmed),
    }
