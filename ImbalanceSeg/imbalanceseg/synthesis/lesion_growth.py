"""Lesions of given volumes in the white matter of a brain: where they lie, how they are shaped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from imbalanceseg.synthesis.brain import BrainAnatomy, noise_in_mm

_TRIES = 25
# Share of lesions at the ventricles, and the distance over which those get rarer.
_PERIVENTRICULAR = 0.55
_REACH_MM = 6.0
_CONFLUENT_MM3 = 1500.0

Box = tuple[slice, slice, slice]


def grow_lesions(
    brain: BrainAnatomy,
    volumes_mm3: Sequence[float] | np.ndarray,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> NDArray[np.int32]:
    """Lesions in a brain.

    Each grows from a point of the white matter, mostly near the ventricles, until it has its volume
    (at least one voxel): a blob with an uneven surface, or, where it is large, a cuff along the
    ventricle. No two of them touch. One that finds no room is left out.

    Args:
        brain: the host; isotropic voxels.
        volumes_mm3: wanted volumes, largest first.
        rng: source of places and courses.
        generator: source of surfaces.

    Returns:
        int32 ``[D, H, W]``: number of the lesion, from 1; 0 elsewhere.
    """
    return _Field(brain, rng, generator).grown(np.asarray(volumes_mm3, float))


class _Field:
    """The white matter that is still free."""

    def __init__(
        self, brain: BrainAnatomy, rng: np.random.Generator, generator: torch.Generator
    ) -> None:
        self.rng, self.generator = rng, generator
        self.spacing = brain.grid.spacing_mm[0]
        self.ventricle = brain.ventricle_distance_mm.numpy()
        white = brain.share("white").numpy()
        low = brain.at.z.numpy() < -24
        self.free = (white > 0.6) & (self.ventricle > 0.3)
        self.instances = np.zeros(self.free.shape, np.int32)
        near = np.exp(-np.maximum(self.ventricle, 0) / _REACH_MM) * self.free
        near, anywhere = near * ~low, self.free * np.where(low, 0.4, 1.0)
        total = max(float(near.sum()), 1e-9), max(float(anywhere.sum()), 1e-9)
        self.chance = np.cumsum(
            _PERIVENTRICULAR * near / total[0] + (1 - _PERIVENTRICULAR) * anywhere / total[1]
        )
        self.chance_near = np.cumsum(near / total[0])

    def grown(self, volumes_mm3: np.ndarray) -> NDArray[np.int32]:
        number = 0
        for volume in volumes_mm3:
            for _ in range(_TRIES):
                centre = self._place(volume > _CONFLUENT_MM3)
                if centre is not None and self._grow(number + 1, centre, float(volume)):
                    number += 1
                    break
        return self.instances

    def _place(self, at_ventricle: bool) -> tuple[int, ...] | None:
        chance = self.chance_near if at_ventricle else self.chance
        flat = int(np.searchsorted(chance, self.rng.random() * chance[-1]))
        where = np.unravel_index(min(flat, chance.size - 1), self.free.shape)
        return tuple(int(n) for n in where) if self.free[where] else None

    def _grow(self, number: int, centre: tuple[int, ...], volume: float) -> bool:
        import cc3d
        from scipy.ndimage import binary_dilation

        wanted = max(1, round(volume / self.spacing**3))
        radius = (volume * 3 / (4 * np.pi)) ** (1 / 3)
        confluent = volume > _CONFLUENT_MM3
        box = self._box(centre, radius * (3.0 if confluent else 2.0) + 2 * self.spacing)
        free = self.free[box]
        if free.sum() < wanted:
            return False
        cost = self._cost(box, centre, radius, confluent)
        cost[~free] = np.inf
        limit = np.partition(cost.ravel(), wanted - 1)[wanted - 1]
        parts = cc3d.connected_components((cost <= limit).astype(np.uint8), connectivity=18)
        mask = parts == parts[tuple(c - b.start for c, b in zip(centre, box, strict=True))]
        if not wanted * 0.7 <= mask.sum() <= wanted * 1.3 + 1:
            return False
        self.instances[box][mask] = number
        self.free[box] &= ~binary_dilation(mask, np.ones((3, 3, 3)))
        return True

    def _box(self, centre: tuple[int, ...], reach_mm: float) -> Box:
        reach = int(np.ceil(reach_mm / self.spacing))
        z, y, x = (
            slice(max(0, c - reach), min(n, c + reach + 1))
            for c, n in zip(centre, self.free.shape, strict=True)
        )
        return z, y, x

    def _cost(
        self, box: Box, centre: tuple[int, ...], radius: float, confluent: bool
    ) -> NDArray[np.float32]:
        """Grows from the centre outwards; the voxels of least cost become the lesion."""
        axes = [
            (np.arange(b.start, b.stop, dtype=np.float32) - c) * self.spacing
            for b, c in zip(box, centre, strict=True)
        ]
        offsets = np.stack(np.meshgrid(*axes, indexing="ij"))
        stretched = np.linalg.qr(self.rng.normal(size=(3, 3)))[0] * self.rng.uniform(0.65, 1.4, 3)
        distance = np.linalg.norm(np.tensordot(stretched.T, offsets, 1), axis=0)
        if confluent:
            distance = 0.45 * distance + 1.3 * np.maximum(self.ventricle[box], 0)
        shape = distance.shape
        rough = noise_in_mm(shape, (self.spacing,) * 3, max(2.5, 0.9 * radius), self.generator)
        cost = distance * (1 + 0.28 * rough.numpy().clip(-2.5, 2.5))
        cost[tuple(c - b.start for c, b in zip(centre, box, strict=True))] = -1
        return cost.astype(np.float32)
