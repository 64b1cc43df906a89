"""Where a person's labels would help most, on a coarse grid: the hardness that matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from imbalanceseg.annotation.patient_order import PatientOrder
from imbalanceseg.geometry import require_same_grid
from imbalanceseg.inference.segmentation import Segmentation
from imbalanceseg.labels import BACKGROUND
from imbalanceseg.metrics.masks import Mask, bounding_box, label_values

NEAR_MM = 10.0
"""Standard deviation of the Gaussian by which hardness fades with the distance from what was found.
"""
DOUBTFUL, LIKELY = 0.1, 0.5
"""Far from what was found, hardness counts from a probability of the one, fully from the other."""

Coarse = NDArray[np.float32]


@dataclass(frozen=True)
class HardRegions:
    """Hardness that matters, summed over the blocks of a :class:`PatientOrder`.

    Attributes:
        amount: ``[s, p, l]``, at least 0, and not 0 everywhere.
        found: foreground voxels of each block, ``[s, p, l]``.
        name: what a place of high ``amount`` is, for people; empty where nothing is hard and
            ``amount`` stands for the middle of the scan.
    """

    amount: Coarse
    found: Coarse
    name: str


def hard_regions(result: Segmentation, order: PatientOrder) -> HardRegions:
    """The first of these that is not empty.

    1. The hardness map.
    2. The entropy of the probability, of the mean of each block.
    3. The surface of the labels.
    4. The middle of the scan, where nothing at all was found.

    Hardness and entropy count fully where something was found and fade away from there; where the
    model sees at least a doubtful probability (without a probability map: where the hardness
    itself is that large) they count, too, so that missed structures are not forgotten and weak
    noise all over the scan does not outweigh what is to be segmented. Where nothing was found, it
    is that doubt alone that counts.

    Args:
        result: of the scan.
        order: of the scan.

    Raises:
        GeometryError: a map does not lie on the grid of the labels.
        InputError: the labels are no labels.
    """
    labels = label_values(result.labels, "segmentation")
    found = order.sums(order.turned(labels != BACKGROUND))
    probability = _map(result, "probability")
    chance = None if probability is None else _cleaned(order.means(order.turned(probability)))
    hardness = _map(result, "hardness")
    near = None
    if hardness is not None:
        hard = _cleaned(order.means(order.turned(hardness)))
        near = _closeness(found > 0, order)
        amount = _counting(hard, near, hard if chance is None else chance, order)
        if amount.any():
            return HardRegions(amount, found, "hard region")
    if chance is not None:
        near = _closeness(found > 0, order) if near is None else near
        amount = _counting(_entropy(chance), near, chance, order)
        if amount.any():
            return HardRegions(amount, found, "hard region")
    amount = order.sums(_surface(order.turned(labels), _box_of(found, order)))
    if amount.any():
        return HardRegions(amount, found, "outline")
    return HardRegions(_middle(amount.shape), found, "")


def _map(result: Segmentation, name: str) -> NDArray[Any] | None:
    image: sitk.Image | None = getattr(result, name)
    if image is None:
        return None
    require_same_grid(result.labels, image, ("segmentation", f"{name} map"))
    return np.asarray(sitk.GetArrayViewFromImage(image))


def _cleaned(values: Coarse) -> Coarse:
    """In [0, 1] whatever a damaged map holds."""
    return np.clip(np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0), 0, 1)


def _closeness(found: Mask, order: PatientOrder) -> Coarse:
    if not found.any():
        return np.zeros(found.shape, np.float32)
    distance = distance_mm(found, order, 4 * NEAR_MM)
    return np.asarray(np.exp(-0.5 * (distance / NEAR_MM) ** 2))


def distance_mm(mask: Mask, order: PatientOrder, reach_mm: float) -> Coarse:
    """Distance of each block to the nearest one of a mask; infinite from ``reach_mm`` on.

    Args:
        mask: ``[s, p, l]`` of blocks, not empty.
        order: whose blocks these are.
        reach_mm: keeps large scans quick.
    """
    import edt

    steps = order.coarse_spacing_mm
    box = tuple(
        slice(max(0, span.start - reach), span.stop + reach)
        for span, reach in zip(
            bounding_box(mask), (int(reach_mm / step) + 1 for step in steps), strict=True
        )
    )
    distance = np.full(mask.shape, np.inf, np.float32)
    free = np.ascontiguousarray(~mask[box])
    distance[box] = edt.edt(free, anisotropy=steps, black_border=False, parallel=1)
    return distance


def _counting(hard: Coarse, near: Coarse, evidence: Coarse, order: PatientOrder) -> Coarse:
    """Hardness by how much it matters, from means to sums over blocks."""
    doubt = np.clip((evidence - DOUBTFUL) / (LIKELY - DOUBTFUL), 0, 1)
    return np.asarray(hard * np.maximum(near, doubt) * order.block_voxels)


def _entropy(chance: Coarse) -> Coarse:
    p = np.clip(chance, 1e-7, 1 - 1e-7)
    bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return np.asarray(np.where((chance > 0) & (chance < 1), bits, 0), np.float32)


def _box_of(found: Coarse, order: PatientOrder) -> tuple[slice, ...]:
    """The voxels around what was found, with one more on each side."""
    factors = order.factors[::-1]
    return tuple(
        slice(max(0, span.start * factor - 1), span.stop * factor + 1)
        for span, factor in zip(bounding_box(found > 0), factors, strict=True)
    )


def _surface(labels: NDArray[np.integer], box: tuple[slice, ...]) -> Mask:
    """Voxels beside a voxel of another label."""
    edge = np.zeros(labels.shape, bool)
    inner, part = labels[box], edge[box]
    for axis in range(3):
        low: tuple[slice, ...] = (slice(None),) * axis + (slice(None, -1),)
        high: tuple[slice, ...] = (slice(None),) * axis + (slice(1, None),)
        other = inner[low] != inner[high]
        part[low] |= other
        part[high] |= other
    return edge


def _middle(shape: tuple[int, ...]) -> Coarse:
    """A bell over the scan, a quarter of it wide."""
    along_s, along_p, along_l = (
        np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 4)) ** 2) for n in shape
    )
    return np.asarray(along_s[:, None, None] * along_p[:, None] * along_l, np.float32)
