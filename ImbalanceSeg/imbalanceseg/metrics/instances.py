"""How many separate things a segmentation finds: lesions, nuclei, metastases. Counted by panoptica.

An instance is a 26-connected component (8-connected in 2D). Predictions and references are matched
one to one, the pair of highest IoU first; a pair counts when it overlaps at all, or with an IoU of
at least one half. So one prediction that covers two lesions finds one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from imbalanceseg.errors import DependencyError, InputError
from imbalanceseg.metrics.masks import Mask

_INSTALL = 'pip install "imbalanceseg[instances]"'


class Match(StrEnum):
    """When a predicted instance counts as the reference instance it lies on."""

    OVERLAP = "overlap"
    HALF = "iou50"


@dataclass(frozen=True)
class SizeStratum:
    """The reference instances of one range of sizes.

    Attributes:
        low: smallest size in the stratum (mm3, or mm2 in 2D).
        high: sizes below this; infinite for the largest.
        reference_count: reference instances of that size.
        found_count: how many of them are matched.
    """

    low: float
    high: float
    reference_count: int
    found_count: int

    @property
    def sensitivity(self) -> float:
        """Share of the stratum that is found; NaN where the reference has none of that size."""
        return self.found_count / self.reference_count if self.reference_count else float("nan")


@dataclass(frozen=True)
class InstanceScore:
    """Instances of a prediction against those of a reference.

    No instances in both agree: every figure is 1. None in one of the two: every figure is 0.

    Attributes:
        found_count: matched pairs (true positives).
        prediction_count: instances predicted.
        reference_count: instances of the reference.
        strata: the reference instances by size, smallest first.
    """

    found_count: int
    prediction_count: int
    reference_count: int
    strata: tuple[SizeStratum, ...]

    @property
    def f1(self) -> float:
        """``2 TP / (2 TP + FP + FN)``, the recognition quality of panoptic quality."""
        return self._share(2 * self.found_count, self.prediction_count + self.reference_count)

    @property
    def sensitivity(self) -> float:
        """Share of the reference's instances that are found."""
        return self._share(self.found_count, self.reference_count)

    @property
    def precision(self) -> float:
        """Share of the predicted instances that are real."""
        return self._share(self.found_count, self.prediction_count)

    def _share(self, part: int, whole: int) -> float:
        if self.prediction_count == self.reference_count == 0:
            return 1.0
        return part / whole if whole else 0.0


def connected_instances(mask: Mask, smallest: int = 1) -> NDArray[np.integer]:
    """Number the 26-connected components of a 3D mask, or the 8-connected ones of a 2D mask.

    Args:
        mask: ``[Z, Y, X]`` or ``[Y, X]``.
        smallest: components of fewer voxels are left out.
    """
    connectivity = 8 if mask.ndim == 2 else 26
    if smallest > 1:
        mask = cc3d.dust(mask.astype(np.uint8), threshold=smallest, connectivity=connectivity) > 0
    return np.asarray(cc3d.connected_components(mask, connectivity=connectivity))


def instance_score(
    prediction: NDArray[np.integer],
    reference: NDArray[np.integer],
    spacing_mm: Sequence[float],
    match: Match = Match.OVERLAP,
    size_edges: Sequence[float] = (),
) -> InstanceScore:
    """Match instances and count them.

    Args:
        prediction: instance numbers ``[Z, Y, X]`` or ``[Y, X]``, 0 is background; see
            :func:`connected_instances`.
        reference: same shape.
        spacing_mm: distance of voxel centres along the same axes.
        match: what counts as found.
        size_edges: ascending sizes in mm3 (mm2 in 2D) that part the strata; one stratum when empty.

    Raises:
        InputError: the shapes differ, or the edges do not ascend.
        DependencyError: panoptica is not installed.

    Source: Kirillov et al., Panoptic Segmentation, CVPR 2019; Kofler et al., panoptica,
    arXiv 2312.02608.
    """
    if prediction.shape != reference.shape:
        raise InputError(
            "shape-mismatch",
            f"The prediction has shape {prediction.shape}, the reference {reference.shape}.",
            "Resample one onto the other first.",
        )
    edges = [float(edge) for edge in size_edges]
    if not all(low < high for low, high in zip([0.0, *edges], edges, strict=False)):
        raise InputError(
            "size-edges-invalid",
            f"The sizes {edges} do not ascend from above 0.",
            "Give sizes such as 100 1000.",
        )
    predicted, true = _instance_count(prediction), _instance_count(reference)
    found_sizes: list[float] = []
    if predicted and true:
        result = _panoptica(prediction, reference, spacing_mm, match)
        found_sizes = list(result.instance_volume_matched_ref_list)
    voxel = float(np.prod(np.asarray(spacing_mm, dtype=np.float64)))
    sizes = np.unique(reference[reference > 0], return_counts=True)[1] * voxel
    limits = np.array([0.0, *edges, np.inf])
    of_size = np.histogram(sizes, limits)[0]
    found_of_size = np.histogram(found_sizes, limits)[0]
    return InstanceScore(
        len(found_sizes),
        predicted,
        true,
        tuple(
            SizeStratum(float(low), float(high), int(count), int(found))
            for low, high, count, found in zip(
                limits[:-1], limits[1:], of_size, found_of_size, strict=True
            )
        ),
    )


def _instance_count(instances: NDArray[np.integer]) -> int:
    return len(np.unique(instances[instances > 0]))


def _panoptica(
    prediction: NDArray[np.integer],
    reference: NDArray[np.integer],
    spacing_mm: Sequence[float],
    match: Match,
) -> Any:
    try:
        from panoptica import InputType, NaiveThresholdMatching, Panoptica_Evaluator
        from panoptica.metrics import Metric
        from panoptica.utils.citation_reminder import disable_citation_reminder
    except ImportError as error:
        raise DependencyError(
            "panoptica-missing",
            "Instances are matched with panoptica, which is not installed.",
            f"Run: {_INSTALL}",
        ) from error
    # It would print to standard output, where a program may expect JSON.
    disable_citation_reminder()
    overlap = match is Match.OVERLAP
    evaluator = Panoptica_Evaluator(
        expected_input=InputType.UNMATCHED_INSTANCE,
        instance_matcher=NaiveThresholdMatching(
            matching_metric=Metric.IOU,
            matching_threshold=0.0 if overlap else 0.5,
            strict_threshold=overlap,
        ),
        instance_metrics=[Metric.IOU],
        global_metrics=[],
    )
    pair = (array.astype(np.uint32) for array in (prediction, reference))
    return evaluator.evaluate(*pair, voxelspacing=tuple(spacing_mm))["ungrouped"]
