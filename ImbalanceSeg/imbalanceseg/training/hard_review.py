"""Look through a dataset for what a model finds hard: cases, slices, patches, instances, groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from imbalanceseg.errors import ImbalanceSegError, InputError
from imbalanceseg.geometry import image_from_array
from imbalanceseg.inference.postprocess import STEPS
from imbalanceseg.inference.pruning import pruned_model
from imbalanceseg.inference.segment import segment
from imbalanceseg.labels import BACKGROUND, UNLABELLED
from imbalanceseg.models.bundle import Model
from imbalanceseg.planning.dataset import CaseArrays, Dataset, TrainingCase, read_case
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress
from imbalanceseg.training.hard_samples import (
    SPARSITIES,
    HardSample,
    Labels,
    hard_samples,
    hardest,
)
from imbalanceseg.training.validation import dice_by_class

REFERENCE_SIZE = "size of the reference"
"""Column that is known of every case with a label, in ml, or in pixels for 2D images."""

_PATCH_MM = 32.0
_PATCH_PIXELS = 64
_MOST_VALUES = 5
_CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class HardSlice:
    """The slice of a case with the most voxels that copies see otherwise, to be shown.

    By voxels, because a speck that one copy loses would make its slice the hardest by Dice.

    Attributes:
        index: along the first axis.
        image: float32 ``[Y, X]``, the first channel.
        dense: classes of the network.
        weakened: share of the weakened copies that show foreground, float32 in [0, 1].
        reference: classes of the label, 255 unlabelled; None without one.
        pixel_mm: along Y and X.
    """

    index: int
    image: NDArray[np.float32]
    dense: Labels
    weakened: NDArray[np.float32]
    reference: Labels | None
    pixel_mm: tuple[float, float]


@dataclass(frozen=True)
class ReviewedCase:
    """What was found of one case.

    Attributes:
        name: of the case.
        samples: itself first, then its slices, patches and instances.
        dice: mean over the classes against its label; None without one, or where both are empty.
        size: of its label's foreground, in ml, or in pixels for 2D images; None without one.
        shown: its hardest slice.
    """

    name: str
    samples: tuple[HardSample, ...]
    dice: float | None
    size: float | None
    shown: HardSlice

    @property
    def disagreement(self) -> float:
        """Of the whole case, in [0, 1]."""
        return self.samples[0].disagreement


@dataclass(frozen=True)
class FailedCase:
    """A case that could not be looked at.

    Attributes:
        name: of the case.
        error: why.
    """

    name: str
    error: ImbalanceSegError


@dataclass(frozen=True)
class Group:
    """How hard the cases of one group are.

    Attributes:
        column: of the metadata.
        value: that the cases share, or the range of theirs.
        cases: how many there are.
        hard: how many of them are among the hardest.
        hard_interval: 95 % Wilson interval of their share.
        disagreement: mean.
        disagreement_interval: 95 % bootstrap interval of the mean; None for a single case.
    """

    column: str
    value: str
    cases: int
    hard: int
    hard_interval: tuple[float, float]
    disagreement: float
    disagreement_interval: tuple[float, float] | None


def review(
    dataset: Dataset,
    model: Model,
    sparsities: Sequence[float] = SPARSITIES,
    device: str = "auto",
    progress: ProgressCallback = ignore_progress,
) -> Iterator[ReviewedCase | FailedCase]:
    """Segment every case with a model and with weakened copies of it, and compare.

    Labels are not needed. A case that cannot be read or segmented does not stop the rest.

    Args:
        dataset: whose cases have the model's channels.
        model: trained to the end, or nearly: before that, copies disagree everywhere.
        sparsities: share of the weights that each copy lacks, each in (0, 1).
        device: see :func:`~imbalanceseg.inference.segment.segment`.
        progress: receives an event a case.

    Raises:
        InputError: ``sparsity-invalid``.
        ModelError: the model cannot be used.
    """
    if not sparsities or not all(0 < s < 1 for s in sparsities):
        raise InputError(
            "sparsity-invalid",
            f"Copies without {', '.join(f'{s:g}' for s in sparsities) or 'any share'} of the "
            "weights cannot be compared.",
            "Give shares between 0 and 1, such as 0.5, 0.7 and 0.9.",
        )
    copies = [pruned_model(model, sparsity) for sparsity in sparsities]
    for done, case in enumerate(dataset.cases):
        progress(ProgressEvent("review", done, len(dataset.cases), case.name))
        try:
            yield _reviewed(dataset, case, model, copies, device)
        except InputError as error:
            yield FailedCase(case.name, error)
    progress(ProgressEvent("review", len(dataset.cases), len(dataset.cases)))


def groups_of(
    cases: Sequence[ReviewedCase],
    metadata: Mapping[str, Mapping[str, str]],
    columns: Iterable[str],
    share: float = 0.2,
) -> list[Group]:
    """How hard the cases are by what is known of them.

    Numbers of which there are more than five are cut into thirds.

    Args:
        cases: as they were reviewed.
        metadata: by case and column; :data:`REFERENCE_SIZE` is added where labels are known.
        columns: to group by.
        share: of all cases that count as the hardest.
    """
    hard = hardest([case.disagreement for case in cases], share)
    groups = []
    for column in columns:
        if column == REFERENCE_SIZE:
            values = ["" if c.size is None else f"{c.size:.6g}" for c in cases]
        else:
            values = [metadata.get(case.name, {}).get(column, "") for case in cases]
        for value, members in _parted(values):
            found = [cases[n].disagreement for n in members]
            groups.append(_group(column, value, found, int(hard[members].sum())))
    return groups


def _reviewed(
    dataset: Dataset, case: TrainingCase, model: Model, copies: Sequence[Model], device: str
) -> ReviewedCase:
    arrays = read_case(dataset, case)
    images = [_image(channel, arrays) for channel in arrays.image]
    scan = images[0] if arrays.flat else images

    def labels(of: Model) -> Labels:
        found = segment(scan, of, device, maps=(), without=STEPS).labels
        return np.asarray(sitk.GetArrayFromImage(found), np.uint8).reshape(arrays.image.shape[1:])

    dense, weakened = labels(model), [labels(copy) for copy in copies]
    patch = (
        (1, _PATCH_PIXELS, _PATCH_PIXELS)
        if arrays.flat
        else tuple(max(1, round(_PATCH_MM / s)) for s in arrays.spacing_mm)
    )
    samples = tuple(hard_samples(case.name, dense, weakened, patch))
    dice = size = None
    if arrays.label is not None:
        classes = len(model.card.segments)
        known = [d for d in dice_by_class(dense, arrays.label, classes) if d is not None]
        dice = float(np.mean(known)) if known else None
        voxels = int(np.isin(arrays.label, (BACKGROUND, UNLABELLED), invert=True).sum())
        size = voxels * (1.0 if arrays.flat else float(np.prod(arrays.spacing_mm)) / 1000)
    differ = np.sum([one != dense for one in weakened], axis=(0, 2, 3))
    worst = int(differ.argmax())
    shown = HardSlice(
        worst,
        arrays.image[0, worst],
        dense[worst],
        np.mean([one[worst] != BACKGROUND for one in weakened], axis=0).astype(np.float32),
        None if arrays.label is None else arrays.label[worst],
        arrays.spacing_mm[1:],
    )
    return ReviewedCase(case.name, samples, dice, size, shown)


def _image(channel: NDArray[np.float32], arrays: CaseArrays) -> sitk.Image:
    """One channel ``[Z, Y, X]``, on its grid; flat where the file is."""
    if arrays.grid is None:
        return sitk.GetImageFromArray(channel[0])
    return image_from_array(channel, arrays.grid)


def _parted(values: Sequence[str]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Values, or thirds of numbers, and which cases have them; what is empty is left out."""
    known = np.array([n for n, value in enumerate(values) if value], np.int64)
    distinct = sorted({values[n] for n in known})
    numbers = _numbers([values[n] for n in known])
    if numbers is None or len(distinct) <= _MOST_VALUES:
        for value in distinct:
            yield value, np.array([n for n in known if values[n] == value])
        return
    edges = np.quantile(numbers, (1 / 3, 2 / 3))
    third = np.searchsorted(edges, numbers)
    for number in range(3):
        inside = third == number
        if inside.any():
            low, high = numbers[inside].min(), numbers[inside].max()
            yield f"{low:g} to {high:g}", known[inside]


def _numbers(values: Sequence[str]) -> NDArray[np.float64] | None:
    try:
        found = np.array([float(value) for value in values])
    except ValueError:
        return None
    return found if np.isfinite(found).all() else None


def _group(column: str, value: str, disagreements: Sequence[float], hard: int) -> Group:
    from scipy.stats import binomtest, bootstrap

    count = len(disagreements)
    share = binomtest(hard, count).proportion_ci(_CONFIDENCE, method="wilson")
    interval = None
    if count > 1:
        if np.ptp(disagreements) > 0:
            drawn = bootstrap(
                (disagreements,),
                np.mean,
                confidence_level=_CONFIDENCE,
                method="percentile",
                rng=np.random.default_rng(0),
            ).confidence_interval
            interval = float(drawn.low), float(drawn.high)
        else:
            interval = float(disagreements[0]), float(disagreements[0])
    mean = float(np.mean(disagreements))
    ends = float(share.low), float(share.high)
    return Group(column, value, count, hard, ends, mean, interval)
