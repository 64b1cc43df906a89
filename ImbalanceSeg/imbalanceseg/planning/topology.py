"""Patch, poolings, kernels and batch of a U-Net: nnU-Net's rules.

Source: Isensee et al., Nature Methods 18, 2021, and the planner of nnU-Net v2. Axes are Z, Y, X; 2D
networks have Y, X.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import ceil, prod

import numpy as np

_SMALLEST_FEATURE_MAP = 4
_CONVOLUTIONS = 2
_SMALLEST_BATCH = 2


@dataclass(frozen=True)
class Rules:
    """Constants of one dimension.

    Attributes:
        patch_voxels: the patch before it is cut to the median case.
        reference_elements: elements of feature maps that a batch of ``reference_batch`` may have
            where 8 GB are at hand.
        reference_batch: see there.
        base_features: of the finest stage; doubled by every pooling.
        most_features: of any stage.
        lone_axis: voxels that an axis needs to be halved when no other is.
    """

    patch_voxels: int
    reference_elements: float
    reference_batch: int
    base_features: int = 32
    most_features: int = 320
    lone_axis: int = 3 * _SMALLEST_FEATURE_MAP


RULES_3D = Rules(256**3, 560e6, 2)
RULES_2D = Rules(2048**2, 85e6, 12, most_features=512)
EARLY_RULES_3D = replace(RULES_3D, base_features=30, lone_axis=2 * _SMALLEST_FEATURE_MAP)
"""Of nnU-Net's first version, where it is known to differ."""
EARLY_RULES_2D = replace(RULES_2D, base_features=30, lone_axis=2 * _SMALLEST_FEATURE_MAP)


@dataclass(frozen=True)
class Topology:
    """Shape of a U-Net.

    Attributes:
        patch: voxels along each axis, a multiple of the product of the strides.
        strides: into every stage, finest first; the first is 1.
        kernels: of every stage.
        features: of every stage.
    """

    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    features: tuple[int, ...]

    @property
    def poolings(self) -> tuple[int, ...]:
        """Number of poolings along each axis."""
        return tuple(sum(s > 1 for s in axis) for axis in zip(*self.strides, strict=True))

    def feature_elements(self, classes: int) -> int:
        """Elements of all feature maps of one patch: convolutions, upsampling, logits.

        nnU-Net's stand-in for memory: proportional to it in training.
        """
        shrunk = accumulate(
            self.strides, lambda size, s: tuple(-(-n // k) for n, k in zip(size, s, strict=True)),
            initial=self.patch,
        )  # fmt: skip
        voxels = [prod(size) for size in shrunk][1:]
        maps = list(zip(voxels, self.features, strict=True))
        encoder = sum(_CONVOLUTIONS * v * f for v, f in maps)
        decoder = sum((_CONVOLUTIONS + 1) * v * f for v, f in maps[:-1])
        return encoder + decoder + classes * voxels[0]


def median_shape(shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Median along each axis."""
    return tuple(round(float(n)) for n in np.median(np.asarray(shapes), axis=0))


def target_spacing(
    spacings_mm: Sequence[Sequence[float]], shapes: Sequence[Sequence[int]]
) -> tuple[float, ...]:
    """Median spacing; finer than that along an axis on which most cases are badly resolved.

    An axis is that when its spacing is more than three times the largest other and its size below a
    third of the smallest other: then the 10th percentile, but never below the other axes.
    """
    spacing = [float(s) for s in np.median(np.asarray(spacings_mm), axis=0)]
    size = median_shape(shapes)
    worst = max(range(len(spacing)), key=spacing.__getitem__)
    others = [a for a in range(len(spacing)) if a != worst]
    coarse = spacing[worst] > 3 * max(spacing[a] for a in others)
    short = 3 * size[worst] < min(size[a] for a in others)
    if coarse and short:
        tenth = float(np.quantile([each[worst] for each in spacings_mm], 0.1))
        spacing[worst] = max(tenth, max(spacing[a] for a in others) + 1e-5)
    return tuple(spacing)


def plan_topology(
    spacing_mm: Sequence[float],
    shape: Sequence[int],
    classes: int,
    rules: Rules,
    memory_gb: float = 8.0,
) -> Topology:
    """The largest patch that fits, and the U-Net for it.

    Args:
        spacing_mm: of the resampled images.
        shape: median shape of the resampled images.
        classes: of the logits, background included.
        rules: :data:`RULES_3D`, :data:`RULES_2D` or the early ones.
        memory_gb: for training with the smallest batch.
    """
    scale = (rules.patch_voxels * prod(spacing_mm)) ** (1 / len(spacing_mm))
    patch = [max(1, min(round(scale / s), n)) for s, n in zip(spacing_mm, shape, strict=True)]
    allowed = rules.reference_elements * memory_gb / 8
    topology = pooled(spacing_mm, patch, rules)
    while topology.feature_elements(classes) * _SMALLEST_BATCH / rules.reference_batch > allowed:
        # The axis that sees most of a case gives way first.
        order = sorted(range(len(patch)), key=lambda a: (topology.patch[a] / shape[a], a))
        axis = next((a for a in reversed(order) if topology.patch[a] > _step(topology, a)), None)
        if axis is None:
            break
        topology = pooled(spacing_mm, _shortened(topology, axis, spacing_mm, rules), rules)
    return topology


def pooled(spacing_mm: Sequence[float], patch: Sequence[int], rules: Rules) -> Topology:
    """Halve axes while they are long and fine enough, and give them a kernel of 3 from then on.

    An axis is pooled while it has 8 voxels or more and its spacing is below twice the smallest of
    those; a lone axis needs 12, or 8 by the early rules. Its kernel is 1 until its spacing is below
    twice the smallest.
    """
    axes = range(len(patch))
    spacing, size = list(spacing_mm), list(patch)
    kernel = [1] * len(size)
    strides, kernels = [(1,) * len(size)], []
    while True:
        long = [a for a in axes if size[a] >= 2 * _SMALLEST_FEATURE_MAP]
        finest = min((spacing[a] for a in long), default=0.0)
        halved = [a for a in long if spacing[a] < 2 * finest]
        if not halved or (len(halved) == 1 and size[halved[0]] < rules.lone_axis):
            break
        kernel = _grown(kernel, spacing)
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if a in halved else 1 for a in axes))
        for axis in halved:
            spacing[axis] *= 2
            size[axis] = ceil(size[axis] / 2)
    kernels.append((3,) * len(size))
    divisor = [prod(s) for s in zip(*strides, strict=True)]
    padded = tuple(-(-n // d) * d for n, d in zip(patch, divisor, strict=True))
    features = [min(rules.base_features * 2**n, rules.most_features) for n in range(len(strides))]
    return Topology(padded, tuple(strides), tuple(kernels), tuple(features))


def batch_size(
    topology: Topology, classes: int, rules: Rules, voxels: float, memory_gb: float = 8.0
) -> int:
    """What memory allows, at most 5 % of all voxels of the dataset, at least 2.

    Args:
        topology: of the network.
        classes: of the logits, background included.
        rules: those the topology was made with.
        voxels: of all resampled cases together.
        memory_gb: for training.
    """
    allowed = rules.reference_elements * memory_gb / 8
    by_memory = round(allowed / topology.feature_elements(classes) * rules.reference_batch)
    by_data = round(0.05 * voxels / prod(topology.patch))
    return max(_SMALLEST_BATCH, min(by_memory, by_data))


def _shortened(
    topology: Topology, axis: int, spacing_mm: Sequence[float], rules: Rules
) -> tuple[int, ...]:
    """The patch with one axis shorter, by no more than the poolings of the shorter one ask for."""

    def less(step: int) -> tuple[int, ...]:
        return tuple(n - step * (a == axis) for a, n in enumerate(topology.patch))

    # A shorter axis may be halved less often: 256 becomes 224, not 192.
    return less(_step(pooled(spacing_mm, less(_step(topology, axis)), rules), axis))


def _grown(kernel: Sequence[int], spacing: Sequence[float]) -> list[int]:
    finest = min(spacing)
    return [3 if k == 3 or s < 2 * finest else 1 for k, s in zip(kernel, spacing, strict=True)]


def _step(topology: Topology, axis: int) -> int:
    return prod(stride[axis] for stride in topology.strides)
