"""A dataset in figures: sizes, spacing, intensities, and how rare and small its foreground is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from imbalanceseg.errors import ImbalanceSegError, InputError
from imbalanceseg.labels import BACKGROUND, UNLABELLED
from imbalanceseg.planning.dataset import CaseArrays, Dataset, read_case
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress

_QUANTILES = (0.1, 0.5, 0.9)
_INTENSITY_QUANTILES = (0.005, 0.05, 0.5, 0.95, 0.995)
_SAMPLES_A_CASE = 50_000
_REACH = 3
_MOST_UNNAMED_CLASSES = 20


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChannelIntensities(_Frozen):
    """Intensities of one channel in the foreground of all cases.

    Attributes:
        mean: of all.
        std: of all.
        low: half a per cent lies below.
        fifth: 5 % lie below.
        median: half lies below.
        ninety_fifth: 5 % lie above.
        high: half a per cent lies above.
    """

    mean: float
    std: float
    low: float
    fifth: float
    median: float
    ninety_fifth: float
    high: float


class ClassFingerprint(_Frozen):
    """One foreground class.

    Attributes:
        cases: cases that have it.
        voxel_share: median over those cases of its share of the labelled voxels.
        components_a_case: median number of its components.
        largest_share: median over cases, of its voxels those in its largest component.
        component_size: 10, 50 and 90 % quantile of the sizes of its components, mm3 (pixels in 2D).
        local_share: mean over its voxels of the share of foreground as near as three voxels of the
            finest axis: about 0.5 and more in compact objects, low in thin or tiny ones.
        compactness: median over cases, of the largest component: mean depth of its voxels below the
            surface over that in a ball of the same volume. 1 for balls, low for trees and sheets.
    """

    cases: int
    voxel_share: float
    components_a_case: float
    largest_share: float
    component_size: tuple[float, float, float]
    local_share: float
    compactness: float


class Fingerprint(_Frozen):
    """A dataset in figures. Axes are Z, Y, X, nearest to superior, posterior, left.

    Attributes:
        cases: how many have a label; those of which only the classes are known are counted where
            there are no others.
        image_labelled: of how many only the classes that they show are known.
        spatial_dims: 2 or 3.
        channels: of an image.
        shapes: size of every case in voxels after cropping to what is not zero.
        spacings_mm: of every case.
        cropped_share: median share of a case's voxels that is left after cropping.
        labelled_share: share of all voxels that is labelled at all.
        intensities: by channel.
        classes: by label value.
    """

    cases: int
    image_labelled: int = 0
    spatial_dims: int
    channels: int
    shapes: list[tuple[int, ...]]
    spacings_mm: list[tuple[float, ...]]
    cropped_share: float
    labelled_share: float
    intensities: list[ChannelIntensities]
    classes: dict[int, ClassFingerprint]


class DatasetFaultsError(InputError):
    """All that is wrong with a dataset, at once.

    Attributes:
        faults: ``(case, sentence)`` for each.
    """

    def __init__(self, dataset: str, faults: Sequence[tuple[str, str]]) -> None:
        lines = "".join(f"\n  {case}: {sentence}" for case, sentence in faults)
        many = f"{len(faults)} faults" if len(faults) > 1 else "one fault"
        super().__init__(
            "dataset-faults",
            f"{dataset} has {many}:{lines}",
            "Mend them, or take the cases out.",
        )
        self.dataset, self.faults = dataset, list(faults)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.dataset, self.faults)


@dataclass(frozen=True)
class _CaseFigures:
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    channels: int
    flat: bool
    cropped_share: float
    labelled_voxels: int
    voxels: int
    voxel_counts: dict[int, int]
    component_sizes: dict[int, NDArray[np.float64]]
    local_shares: dict[int, float]
    compactness: dict[int, float]
    samples: NDArray[np.float32]


def fingerprint(
    dataset: Dataset, seed: int = 1234, progress: ProgressCallback | None = None
) -> Fingerprint:
    """Read every case once and measure it.

    Args:
        dataset: see :func:`~imbalanceseg.planning.dataset.open_dataset`.
        seed: of the voxels whose intensities are taken.
        progress: receives an event a case.

    Raises:
        DatasetFaultsError: everything that is wrong with any case, together.

    Source: Isensee et al., Nature Methods 2021 (dataset fingerprint); the figures of imbalance are
    ours.
    """
    progress = progress or ignore_progress
    draw = np.random.default_rng(seed)
    figures: list[_CaseFigures] = []
    of_images: list[_CaseFigures] = []
    faults: list[tuple[str, str]] = []
    for done, case in enumerate(dataset.cases):
        progress(ProgressEvent("fingerprint", done, len(dataset.cases), case.name))
        try:
            arrays = read_case(dataset, case)
        except ImbalanceSegError as error:
            faults.append((case.name, error.message))
            continue
        faults += [(case.name, fault) for fault in _faults(dataset, arrays)]
        if case.labelled:
            (of_images if case.label is None else figures).append(_measured(arrays, draw))
    progress(ProgressEvent("fingerprint", len(dataset.cases), len(dataset.cases)))
    image_labelled, figures = len(of_images), figures or of_images
    faults += _odd_ones_out(dataset, figures)
    if not figures and not faults:
        faults.append((dataset.name, "no case has a label, so there is nothing to learn from"))
    shown = any(case.shows for case in dataset.cases)
    if figures and not faults and not shown and not any(f.voxel_counts for f in figures):
        faults.append((dataset.name, "no case has any foreground"))
    values = {value for f in figures for value in f.voxel_counts}
    if not dataset.labels and len(values) > _MOST_UNNAMED_CLASSES:
        faults.append(
            (
                dataset.name,
                f"the labels have {len(values)} values that nothing names: name them in "
                "dataset.json, or say that they number instances (--instances)",
            )
        )
    if faults:
        raise DatasetFaultsError(dataset.name, faults)
    return _joined(figures, image_labelled)


def _faults(dataset: Dataset, arrays: CaseArrays) -> list[str]:
    faults = []
    if arrays.label is not None and dataset.labels:
        found = set(np.unique(arrays.label).tolist()) - {UNLABELLED}
        unknown = sorted(found - dataset.labels.keys() - {BACKGROUND})
        if unknown:
            listed = ", ".join(map(str, unknown))
            faults.append(f"the label {listed} is not declared in dataset.json")
    expected = len(dataset.channel_names)
    if expected and arrays.image.shape[0] != expected:
        faults.append(f"it has {arrays.image.shape[0]} channels, the dataset says {expected}")
    if not np.any(arrays.image):
        faults.append("the image is 0 everywhere")
    return faults


def _odd_ones_out(dataset: Dataset, figures: Sequence[_CaseFigures]) -> list[tuple[str, str]]:
    """Cases of another dimension or number of channels than most."""
    faults = []
    questions: list[tuple[str, Callable[[_CaseFigures], int]]] = [
        ("dimensions", lambda f: 2 if f.flat else 3),
        ("channels", lambda f: f.channels),
    ]
    for what, ask in questions:
        answers = [ask(f) for f in figures]
        if len(set(answers)) > 1 and not (what == "channels" and dataset.channel_names):
            listed = ", ".join(f"{answers.count(a)} with {a}" for a in sorted(set(answers)))
            faults.append((dataset.name, f"cases differ in their number of {what}: {listed}"))
    return faults


def _measured(arrays: CaseArrays, draw: np.random.Generator) -> _CaseFigures:
    from scipy import ndimage

    assert arrays.label is not None
    box = _box(np.any(arrays.image != 0, axis=0))
    image, label = arrays.image[:, *box], arrays.label[box]
    instances = None if arrays.instances is None else arrays.instances[box]
    voxel = float(np.prod(arrays.spacing_mm))
    labelled = label != UNLABELLED
    foreground = labelled & (label != BACKGROUND)
    # The same distance along every axis: thick slices would make any object look thin.
    reach = (round(_REACH * min(arrays.spacing_mm) / step) for step in arrays.spacing_mm)
    size = [2 * voxels + 1 for voxels in reach]
    local = ndimage.uniform_filter(foreground.astype(np.float32), size, mode="mirror")
    counts, sizes, shares, compact = {}, {}, {}, {}
    for value in np.unique(label[foreground]).tolist():
        mine = label == value
        counts[value] = int(mine.sum())
        sizes[value] = _component_sizes(mine, instances) * voxel
        shares[value] = float(local[mine].mean())
        compact[value] = _compactness(mine, arrays.spacing_mm, arrays.flat)
    # Without foreground the intensities of all that is labelled have to do, or of all there is.
    known = next((mask for mask in (foreground, labelled) if mask.any()), np.ones_like(labelled))
    inside = np.flatnonzero(known)
    picked = draw.choice(inside, min(len(inside), _SAMPLES_A_CASE), replace=False)
    return _CaseFigures(
        shape=label.shape,
        spacing_mm=arrays.spacing_mm,
        channels=len(image),
        flat=arrays.flat,
        cropped_share=label.size / arrays.label.size,
        labelled_voxels=int(labelled.sum()),
        voxels=label.size,
        voxel_counts=counts,
        component_sizes=sizes,
        local_shares=shares,
        compactness=compact,
        samples=image.reshape(len(image), -1)[:, picked],
    )


def _component_sizes(
    mask: NDArray[np.bool_], instances: NDArray[np.int32] | None
) -> NDArray[np.float64]:
    """Voxels of every component, or of every numbered instance."""
    import cc3d

    numbered = cc3d.connected_components(mask, connectivity=26) if instances is None else instances
    counts = np.bincount(numbered[mask].ravel())
    return counts[counts > 0].astype(np.float64)


def _compactness(mask: NDArray[np.bool_], spacing: tuple[float, ...], flat: bool) -> float:
    import cc3d
    import edt

    largest = cc3d.largest_k(mask, k=1, connectivity=26) > 0
    largest = largest[_box(largest)]
    axes = slice(1, None) if flat else slice(None)
    inside, steps = (largest[0] if flat else largest), spacing[axes]
    # A border of background: the edge of the image is a surface too.
    depth = edt.edt(np.pad(inside, 1), anisotropy=steps)
    size = float(inside.sum()) * float(np.prod(steps))
    radius = (size / np.pi) ** 0.5 if flat else (3 * size / (4 * np.pi)) ** (1 / 3)
    # The mean depth in a ball of radius R is R / 4, in a disc R / 3.
    ball = radius / 3 if flat else radius / 4
    return min(1.0, float(depth.sum() / inside.sum()) / ball)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    spans = []
    for axis in range(3):
        hits = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        spans.append(slice(int(hits[0]), int(hits[-1]) + 1) if len(hits) else slice(None))
    return spans[0], spans[1], spans[2]


def _joined(figures: Sequence[_CaseFigures], image_labelled: int) -> Fingerprint:
    samples = np.concatenate([f.samples for f in figures], axis=1).astype(np.float64)
    values = sorted({value for f in figures for value in f.voxel_counts})
    return Fingerprint(
        cases=len(figures),
        image_labelled=image_labelled,
        spatial_dims=2 if figures[0].flat else 3,
        channels=figures[0].channels,
        shapes=[f.shape for f in figures],
        spacings_mm=[f.spacing_mm for f in figures],
        cropped_share=float(np.median([f.cropped_share for f in figures])),
        labelled_share=sum(f.labelled_voxels for f in figures) / sum(f.voxels for f in figures),
        intensities=[_intensities(channel) for channel in samples],
        classes={value: _class(value, figures) for value in values},
    )


def _intensities(values: NDArray[np.float64]) -> ChannelIntensities:
    low, fifth, median, ninety_fifth, high = np.quantile(values, _INTENSITY_QUANTILES).tolist()
    return ChannelIntensities(
        mean=float(values.mean()),
        std=float(values.std()),
        low=low,
        fifth=fifth,
        median=median,
        ninety_fifth=ninety_fifth,
        high=high,
    )


def _class(value: int, figures: Sequence[_CaseFigures]) -> ClassFingerprint:
    having = [f for f in figures if value in f.voxel_counts]
    sizes = np.concatenate([f.component_sizes[value] for f in having])
    small, middle, large = (float(q) for q in np.quantile(sizes, _QUANTILES))
    return ClassFingerprint(
        cases=len(having),
        voxel_share=float(np.median([f.voxel_counts[value] / f.labelled_voxels for f in having])),
        components_a_case=float(np.median([len(f.component_sizes[value]) for f in having])),
        largest_share=float(
            np.median(
                [f.component_sizes[value].max() / f.component_sizes[value].sum() for f in having]
            )
        ),
        component_size=(small, middle, large),
        local_share=float(
            np.average(
                [f.local_shares[value] for f in having],
                weights=[f.voxel_counts[value] for f in having],
            )
        ),
        compactness=float(np.median([f.compactness[value] for f in having])),
    )
