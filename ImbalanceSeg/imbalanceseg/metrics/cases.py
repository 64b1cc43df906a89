"""Score a folder of segmentations against a folder of references, case by case."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from imbalanceseg.errors import GeometryError, InputError
from imbalanceseg.geometry import Grid, require_same_grid, resample
from imbalanceseg.io import read_image
from imbalanceseg.metrics.evaluate import DEFAULT_METRICS, evaluate
from imbalanceseg.metrics.maps import evaluate_maps

_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
_NAMED = 5


@dataclass(frozen=True)
class Case:
    """The files of one case.

    Attributes:
        name: of the case; empty for two files given one by one.
        prediction: labels to judge.
        reference: labels taken as true.
        probability: foreground probability, or None.
        hardness: hardness map, or None.
    """

    name: str
    prediction: Path
    reference: Path
    probability: Path | None = None
    hardness: Path | None = None


def pair_cases(
    prediction: Path,
    reference: Path,
    probability: Path | None = None,
    hardness: Path | None = None,
) -> list[Case]:
    """Put together what belongs together.

    Args:
        prediction: an image, or a folder.
        reference: an image, or a folder. With a folder all four must be folders; every case of the
            reference must be in each, under the same name: ``<case>.nrrd`` (or another readable
            ending), or ``<case>/labels.nrrd`` (``probability.nrrd``, ``hardness.nrrd``) as
            ``imbalanceseg segment`` leaves it.
        probability: foreground probability of the same cases, or None.
        hardness: hardness maps of the same cases, or None.

    Returns:
        Cases in the order of their names.

    Raises:
        InputError: a folder beside a file, a folder without images, two files of one case, or a
            case of the reference that is missing elsewhere.
    """
    given = {"labels": prediction, "probability": probability, "hardness": hardness}
    paths = {kind: path for kind, path in given.items() if path is not None}
    if not reference.is_dir():
        folders = [path for path in paths.values() if path.is_dir()]
        if folders:
            raise _mixed(folders[0], reference)
        return [Case("", prediction, reference, probability, hardness)]
    for path in paths.values():
        if not path.is_dir():
            raise _mixed(reference, path)
    truth = _images(reference, "labels")
    found = {kind: _images(path, kind) for kind, path in paths.items()}
    for kind, images in found.items():
        missing = sorted(truth.keys() - images.keys())
        if missing:
            raise InputError(
                "case-missing",
                f"{paths[kind]} has no image for {_listed(missing)} of {reference}.",
                "Names must be equal up to the ending; take the case out of the reference if it "
                "is not to be scored.",
            )
    return [
        Case(
            name,
            found["labels"][name],
            truth[name],
            found.get("probability", {}).get(name),
            found.get("hardness", {}).get(name),
        )
        for name in sorted(truth)
    ]


def score_case(
    case: Case,
    metrics: Iterable[str] = DEFAULT_METRICS,
    tolerance_mm: float = 1.0,
    resampled: bool = False,
    smallest_instance_mm3: float = 0.0,
) -> dict[str, float]:
    """The figures of one case; see :func:`~imbalanceseg.metrics.evaluate.evaluate`.

    Args:
        case: which files.
        metrics: names of :mod:`imbalanceseg.metrics.evaluate`.
        tolerance_mm: of ``surface_dice``.
        resampled: bring what lies on another grid onto the reference's, labels to the nearest
            voxel. Voxels of the reference that the prediction's grid does not cover count as
            background in it.
        smallest_instance_mm3: smaller components are no instances.

    Raises:
        InputError: a file cannot be read or does not hold what it should.
        GeometryError: the grids differ and ``resampled`` is False.
    """
    reference = read_image(case.reference)
    prediction = _on(read_image(case.prediction), reference, "prediction", "nearest", resampled)
    figures = evaluate(
        prediction,
        reference,
        metrics,
        tolerance_mm=tolerance_mm,
        smallest_instance_mm3=smallest_instance_mm3,
    )
    maps = {
        kind: _on(read_image(path), reference, f"{kind} map", "linear", resampled)
        for kind, path in (("probability", case.probability), ("hardness", case.hardness))
        if path is not None
    }
    return figures | evaluate_maps(prediction, reference, **maps) if maps else figures


def summary(cases: Iterable[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and median of every figure that any case has, over the cases where it is defined.

    An infinite distance, from an empty prediction, makes the mean infinite; the median bears it.
    """
    rows = list(cases)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {
        name: np.array([row[name] for row in rows if name in row and not np.isnan(row[name])])
        for name in names
    }
    return {
        kind: {name: float(of(c)) if c.size else float("nan") for name, c in columns.items()}
        for kind, of in (("mean", np.mean), ("median", np.median))
    }


def _on(
    image: sitk.Image,
    reference: sitk.Image,
    name: str,
    interpolation: Literal["linear", "nearest"],
    resampled: bool,
) -> sitk.Image:
    if resampled and not Grid.of(image).same_as(Grid.of(reference)):
        return resample(image, Grid.of(reference), interpolation)
    try:
        require_same_grid(image, reference, (name, "reference"))
    except GeometryError as error:
        hint = "Add --resample to bring it onto the reference's grid."
        raise GeometryError(error.code, error.message, hint) from None
    return image


def _images(folder: Path, kind: str) -> dict[str, Path]:
    images: dict[str, Path] = {}
    for name, path in _named(folder, kind):
        if name in images:
            raise InputError(
                "case-twice",
                f"{folder} has two images of {name}: {images[name].name} and {path.name}.",
                "Keep one of them.",
            )
        images[name] = path
    if not images:
        raise InputError(
            "folder-without-images",
            f"{folder} holds no image of a case.",
            f"Images end in {', '.join(_ENDINGS)}, or lie in <case>/{kind}.nrrd.",
        )
    return images


def _named(folder: Path, kind: str) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            inside = path / f"{kind}.nrrd"
            if inside.is_file():
                yield path.name, inside
            continue
        ending = next((e for e in _ENDINGS if path.name.lower().endswith(e)), None)
        if ending:
            yield path.name[: -len(ending)], path


def _mixed(folder: Path, file: Path) -> InputError:
    return InputError(
        "folder-beside-file",
        f"{folder} is a folder and {file} is not.",
        "Give two images, or two folders.",
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
