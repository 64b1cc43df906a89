"""Which samples are hard to learn: those on which a network and weakened copies of it disagree.

It needs no reference. A sample that is labelled wrongly is hard, too, so what is ranked first is to
be looked at before it is attended to.

Source: Jaiswal et al., "Attend Who is Weak", WACV 2023, after Hooker et al., arXiv 1911.05248, who
compare classes; what stands for it in segmentation is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imbalanceseg.errors import InputError
from imbalanceseg.labels import BACKGROUND, UNLABELLED

Kind = Literal["case", "slice", "patch", "instance"]
Labels = NDArray[np.uint8]

SPARSITIES = (0.5, 0.7, 0.9)
"""Of the weakened copies, unless others are asked for."""


@dataclass(frozen=True)
class HardSample:
    """How hard one sample is.

    Attributes:
        kind: what it is.
        case: that it belongs to.
        index: of its first voxel along each axis; empty for a case.
        shape: of its box.
        voxels: foreground in it, of the network or a weakened copy.
        disagreement: in [0, 1]; 0 where the weakened copies say the same.
    """

    kind: Kind
    case: str
    index: tuple[int, ...]
    shape: tuple[int, ...]
    voxels: int
    disagreement: float


def disagreement(dense: Labels, weakened: Sequence[Labels]) -> float:
    """One minus Dice of two segmentations, the mean over their classes and the weakened copies.

    A class that neither shows does not count; where none is left they agree.

    Args:
        dense: classes ``[...]`` of the network.
        weakened: those of its copies.
    """
    return float(np.mean([_apart(dense, other) for other in weakened]))


def hard_samples(
    case: str, dense: Labels, weakened: Sequence[Labels], patch: Sequence[int]
) -> Iterator[HardSample]:
    """Score a case, its slices, patches and instances; those without foreground are left out.

    Args:
        case: its name.
        dense: classes ``[Z, Y, X]`` of the network.
        weakened: those of its copies.
        patch: sides of a patch in voxels; patches lie side by side.

    Raises:
        InputError: ``no-weakened`` without copies, ``shapes-differ`` when they differ in shape.
    """
    _require_alike(dense, weakened)
    shown = np.logical_or.reduce([labels != BACKGROUND for labels in (dense, *weakened)])
    whole = disagreement(dense, weakened)
    yield HardSample("case", case, (), dense.shape, int(shown.sum()), whole)
    for kind, box in (*_slices(dense.shape), *_patches(dense.shape, patch)):
        voxels = int(shown[box].sum())
        if voxels:
            value = disagreement(dense[box], [labels[box] for labels in weakened])
            yield HardSample(kind, case, _start(box), _extent(box), voxels, value)
    yield from _instances(case, dense, weakened, shown)


def sample_weights(disagreements: Sequence[float], strength: float = 1.0) -> NDArray[np.float64]:
    """Weights that attend to hard samples: ``1 + strength * rank``, scaled to a mean of one.

    Ranks run from 0 for the easiest to 1 for the hardest, so one sample that is wrongly labelled
    gets at most twice the mean, however far it lies from the others.

    Args:
        disagreements: one a sample.
        strength: 0 for no attention.

    Returns:
        One weight a sample, in their order.
    """
    from scipy.stats import rankdata

    values = np.asarray(disagreements, np.float64)
    if not len(values):
        return values
    ranks = (rankdata(values) - 1) / max(1, len(values) - 1) if len(values) > 1 else values * 0
    weights: NDArray[np.float64] = 1 + strength * ranks
    return weights / weights.mean()


def hardest(disagreements: Sequence[float], share: float = 0.2) -> NDArray[np.bool_]:
    """The hardest samples: so large a share, one at least, but none on which all copies agree.

    Args:
        disagreements: one a sample.
        share: of them, in [0, 1].
    """
    values = np.asarray(disagreements, np.float64)
    chosen = np.zeros(len(values), bool)
    count = max(1, round(share * len(values)))
    chosen[np.argsort(-values, kind="stable")[:count]] = True
    return chosen & (values > 0)


def _apart(a: Labels, b: Labels) -> float:
    classes = set(np.unique(a).tolist()) | set(np.unique(b).tolist())
    gaps = []
    for value in classes - {BACKGROUND, UNLABELLED}:
        in_a, in_b = a == value, b == value
        gaps.append(1 - 2 * np.sum(in_a & in_b) / (in_a.sum() + in_b.sum()))
    return float(np.mean(gaps)) if gaps else 0.0


def _require_alike(dense: Labels, weakened: Sequence[Labels]) -> None:
    if not weakened:
        raise InputError(
            "no-weakened",
            "Without a weakened copy there is nothing to disagree with.",
            "Give at least one sparsity.",
        )
    shapes = {labels.shape for labels in (dense, *weakened)}
    if len(shapes) > 1:
        raise InputError(
            "shapes-differ",
            f"The segmentations have the shapes {', '.join(map(str, sorted(shapes)))}.",
            "Give segmentations of one image.",
        )


Box = tuple[slice, ...]


def _slices(shape: Sequence[int]) -> list[tuple[Kind, Box]]:
    rest = tuple(slice(0, n) for n in shape[1:])
    return [("slice", (slice(z, z + 1), *rest)) for z in range(shape[0] if shape[0] > 1 else 0)]


def _patches(shape: Sequence[int], patch: Sequence[int]) -> list[tuple[Kind, Box]]:
    along = [
        [slice(low, min(low + side, n)) for low in range(0, n, side)]
        for n, side in zip(shape, patch, strict=True)
    ]
    return [("patch", box) for box in product(*along)]


def _instances(
    case: str, dense: Labels, weakened: Sequence[Labels], shown: NDArray[np.bool_]
) -> Iterator[HardSample]:
    """Of every piece of what any of them shows, the share of voxels whose class differs."""
    import cc3d
    from scipy.ndimage import find_objects

    pieces = np.asarray(cc3d.connected_components(shown.astype(np.uint8), connectivity=26))
    for number, box in enumerate(find_objects(pieces), start=1):
        inside = pieces[box] == number
        flips = [float((labels[box] != dense[box])[inside].mean()) for labels in weakened]
        voxels = int(inside.sum())
        yield HardSample("instance", case, _start(box), _extent(box), voxels, float(np.mean(flips)))


def _start(box: Box) -> tuple[int, ...]:
    return tuple(int(one.start) for one in box)


def _extent(box: Box) -> tuple[int, ...]:
    return tuple(int(one.stop - one.start) for one in box)
