"""How good a segmentation gets with every painted slice, and how soon: by scheme of painting.

A simulated person paints slices of a reference: at even steps, at random, or where the suggestions
say. After some numbers of slices the model is adapted, and judged outside what is painted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import SimpleITK as sitk

from imbalanceseg.annotation.annotation import Annotation, ConfirmedSlice
from imbalanceseg.annotation.simulated import (
    evenly_spaced_slices,
    paint_slices,
    paint_suggested,
    random_slices,
)
from imbalanceseg.annotation.suggest import suggest_slices
from imbalanceseg.atomic import write_json
from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.inference.segmentation import Segmentation
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.metrics.evaluate import evaluate
from imbalanceseg.models.bundle import Model
from imbalanceseg.progress import ProgressCallback, ProgressEvent
from imbalanceseg.training.finetune import finetune

_Adapt = Callable[[Annotation], Segmentation]
Scheme = Literal["even", "random", "suggested"]
RESULTS_FILE = "annotation.json"


@dataclass(frozen=True)
class StudyCase:
    """A scan whose truth is known.

    Attributes:
        name: for people.
        image: the scan.
        reference: labels 0..K on its grid.
        metrics: of :func:`~imbalanceseg.metrics.evaluate.evaluate`.
    """

    name: str
    image: sitk.Image
    reference: sitk.Image
    metrics: tuple[str, ...] = ("dice",)


@dataclass(frozen=True)
class Outcome:
    """What some painted slices gave.

    Attributes:
        case: name.
        scheme: how slices were chosen.
        seed: of everything random.
        slices: painted.
        seconds: that the adaptation took.
        figures: of the voxels that were not painted, by metric.
    """

    case: str
    scheme: str
    seed: int
    slices: int
    seconds: float
    figures: dict[str, float]


def run_annotation_study(
    folder: Path,
    cases: Sequence[StudyCase],
    model: Model | None,
    counts: Sequence[int],
    schemes: Sequence[str],
    seeds: int,
    seconds: float,
    device: str,
    progress: ProgressCallback,
) -> list[Outcome]:
    """Run what is missing of a study; each result is kept in ``annotation.json`` at once.

    Args:
        folder: of the results.
        cases: to paint.
        model: that is adapted; None begins from nothing.
        counts: of painted slices at which a model is adapted and judged.
        schemes: of :data:`Scheme`.
        seeds: runs of each.
        seconds: that an adaptation may take.
        device: as for ``finetune``.
        progress: receives an event a run.

    Raises:
        InputError: ``scheme-unknown``, ``slice-count``, or the errors of ``finetune``.
    """
    for scheme in schemes:
        if scheme not in get_args(Scheme):
            raise InputError(
                "scheme-unknown",
                f"There is no scheme {scheme!r} of painting.",
                f"Schemes are {', '.join(get_args(Scheme))}.",
            )
    if not counts or min(counts) < 1:
        raise InputError(
            "slice-count", f"{list(counts)} are no numbers of slices.", "Give 1 or more."
        )
    known = _read(folder / RESULTS_FILE)
    runs = [(c, scheme, seed) for c in cases for scheme in schemes for seed in range(seeds)]
    for done, (case, scheme, seed) in enumerate(runs):
        progress(ProgressEvent("study", done, len(runs), f"{case.name}, {scheme}, seed {seed}"))
        have = {o.slices for o in known if (o.case, o.scheme, o.seed) == (case.name, scheme, seed)}
        if set(counts) <= have:
            continue
        for outcome in _run(case, model, sorted(counts), scheme, seed, seconds, device):
            if outcome.slices not in have:
                known.append(outcome)
                write_json(folder / RESULTS_FILE, [asdict(one) for one in known])
    progress(ProgressEvent("study", len(runs), len(runs)))
    names = {case.name for case in cases}
    return [one for one in known if one.case in names and one.scheme in schemes]


def painting_axis(image: sitk.Image) -> int:
    """The axis that a person paints along: that of the thickest slices, else the axial one."""
    grid = Grid.of(image)
    if max(grid.spacing_mm) > 1.01 * min(grid.spacing_mm):
        return int(np.argmax(grid.spacing_mm))
    return int(np.abs(grid.matrix[2]).argmax())


def _run(
    case: StudyCase,
    model: Model | None,
    counts: Sequence[int],
    scheme: str,
    seed: int,
    seconds: float,
    device: str,
) -> Iterator[Outcome]:
    # A suggestion is asked of the same annotation that was judged: adapt to it once.
    latest: dict[int, tuple[Segmentation, float]] = {}

    def adapted(annotation: Annotation) -> Segmentation:
        painted = len(annotation.confirmed)
        if painted not in latest:
            begun = time.monotonic()
            tuned = finetune(
                case.image, annotation, model, seconds=seconds, seed=seed, device=device
            )
            latest.clear()
            latest[painted] = tuned.segmentation, time.monotonic() - begun
        return latest[painted][0]

    for annotation in _annotations(case, counts, scheme, seed, adapted):
        painted = len(annotation.confirmed)
        if painted in counts:
            found = adapted(annotation)
            took = latest[painted][1]
            yield Outcome(
                case.name, scheme, seed, painted, round(took, 2), _figures(case, annotation, found)
            )


def _annotations(
    case: StudyCase, counts: Sequence[int], scheme: str, seed: int, adapted: _Adapt
) -> Iterator[Annotation]:
    axis = painting_axis(case.image)
    if scheme == "suggested":

        def suggest(annotation: Annotation) -> ConfirmedSlice | None:
            if not annotation.confirmed:
                # Without any result a person begins in the middle of what is to be found.
                return evenly_spaced_slices(case.reference, 1, axis, _offset(seed))[0]
            best = suggest_slices(adapted(annotation), annotation, 1)
            return ConfirmedSlice(best[0].axis, best[0].index) if best else None

        yield from paint_suggested(case.reference, max(counts), suggest)
        return
    for count in counts:
        if scheme == "even":
            slices = evenly_spaced_slices(case.reference, count, axis, _offset(seed))
        else:
            slices = random_slices(case.reference, count, axis, seed)
        yield paint_slices(case.reference, slices)


def _offset(seed: int) -> float:
    """Part of a step by which a seed shifts the even scheme; none for the first."""
    return (seed * 0.618034 + 0.5) % 1 - 0.5


def _figures(case: StudyCase, annotation: Annotation, found: Segmentation) -> dict[str, float]:
    """Outside what is painted: unlabelled voxels of a reference do not count."""
    truth = sitk.GetArrayFromImage(case.reference)
    truth[annotation.known] = UNLABELLED
    reference = image_from_array(truth, Grid.of(case.reference))
    return dict(evaluate(found.labels, reference, metrics=case.metrics))


def _read(path: Path) -> list[Outcome]:
    if not path.is_file():
        return []
    try:
        return [Outcome(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            "study-damaged",
            f"{path} cannot be read ({error}).",
            "Remove it, or choose another folder.",
        ) from error
