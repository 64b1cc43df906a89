"""Training patches painted while the network trains: anatomy once, appearance each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from imbalanceseg.synthesis.anatomy import ChestAnatomy
from imbalanceseg.synthesis.chest_ct import random_style, render_chest_ct

# Thinner bronchi are many, and below what a chest CT resolves: no patch is taken for their sake.
_SMALL_AIRWAY_RADIUS_MM = (1.0, 2.5)


@dataclass(frozen=True)
class PatchSampling:
    """Where patches are taken and how the anatomy is bent.

    Attributes:
        small_airway: share of patches centred on an airway of 1 to 2.5 mm radius.
        airway: share centred on a wider airway. Both lie evenly along the airways' length: evenly
            over their volume, most would lie in the trachea.
        pleura: share centred within 6 mm of the lung's surface and away from airways, where thin
            dark tongues of lung resemble a bronchus; the rest is anywhere in the body.
        rotation_degrees: largest rotation about a random axis.
        zoom: range of the magnification of the anatomy.
    """

    small_airway: float = 0.45
    airway: float = 0.2
    pleura: float = 0.15
    rotation_degrees: float = 20.0
    zoom: tuple[float, float] = (0.8, 1.3)


class SyntheticAirwayPatches:
    """Endless, seeded source of CT patches with exact airway labels.

    Args:
        anatomies: chests to cut patches from; equally likely.
        seed: same seed, same patches.
        sampling: see :class:`PatchSampling`.
        device: where patches are painted.
    """

    def __init__(
        self,
        anatomies: Sequence[ChestAnatomy],
        seed: int,
        sampling: PatchSampling | None = None,
        device: str = "cpu",
    ) -> None:
        self.sampling = sampling or PatchSampling()
        self.spacing_mm = anatomies[0].grid.spacing_mm[0]
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.names = ChestAnatomy.map_names()
        self.stacks = [torch.from_numpy(a.stacked()) for a in anatomies]
        self.centres = [_centres(a) for a in anatomies]
        self.device = device

    def batch(self, count: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw patches.

        Returns:
            HU, label in {0, 1} and centreline weight, float32 ``[count, 1, side, side, side]``.
        """
        patches = [self._patch(side) for _ in range(count)]
        hu, label, weight = (torch.stack(parts)[:, None] for parts in zip(*patches, strict=True))
        return hu, label, weight

    def _patch(self, side: int) -> tuple[Tensor, Tensor, Tensor]:
        which = int(self.rng.integers(len(self.stacks)))
        stack, centres = self.stacks[which], self.centres[which]
        places = centres[self._kind()]
        if not len(places.voxels):
            places = centres["body"]
        voxel = places.drawn(self.rng) + self.rng.integers(-side // 4, side // 4 + 1, 3)
        zoom = float(self.rng.uniform(*self.sampling.zoom))
        warped = self._warp(stack, voxel, side, zoom)
        maps = dict(zip(self.names, warped, strict=True))
        for name in self.names:
            if name.endswith("_mm"):
                maps[name] = maps[name] * zoom
        style = random_style(self.rng)
        axis = 0 if self.rng.random() < 0.9 else int(self.rng.integers(3))
        hu = render_chest_ct(maps, self.spacing_mm, style, self.generator, axis)
        label = (maps["airway_distance_mm"] < 0).float()
        return hu, label, maps["centerline_weight"]

    def _kind(self) -> str:
        shares = (self.sampling.small_airway, self.sampling.airway, self.sampling.pleura)
        kind = np.searchsorted(np.cumsum(shares), self.rng.random(), side="right")
        return ("small", "airway", "pleura", "body")[int(kind)]

    def _warp(self, stack: Tensor, voxel: np.ndarray, side: int, zoom: float) -> Tensor:
        """Rotate, flip and magnify about ``voxel``; float32 ``[maps, side, side, side]``."""
        angle = np.deg2rad(self.rng.uniform(0, self.sampling.rotation_degrees))
        matrix = _rotation(self.rng.normal(size=3), angle) / zoom
        matrix = matrix @ np.diag(self.rng.choice([-1.0, 1.0], 3, p=[0.3, 0.7]))
        reach = int(np.ceil(np.abs(matrix).sum(1).max() * side / 2)) + 2
        shape = np.array(stack.shape[1:])
        low = np.clip(voxel - reach, 0, np.maximum(shape - 2 * reach, 0))
        high = np.minimum(low + 2 * reach, shape)
        z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        box = stack[:, z, y, x].to(self.device, torch.float32)
        centre = 2 * (voxel - low + 0.5) / (high - low) - 1
        scale = side / (high - low)
        theta = np.zeros((3, 4))
        theta[:, :3] = (matrix * scale[:, None])[::-1, ::-1]
        theta[:, 3] = centre[::-1]
        grid = F.affine_grid(
            torch.tensor(theta[None], dtype=torch.float32, device=self.device),
            [1, 1, side, side, side],
            align_corners=False,
        )
        return F.grid_sample(box[None], grid, padding_mode="border", align_corners=False)[0]


def normalized(hu: Tensor, clip: tuple[float, float]) -> Tensor:
    """HU clipped to ``clip`` and scaled to [0, 1]."""
    low, high = clip
    return ((hu - low) / (high - low)).clamp(0, 1)


@dataclass(frozen=True)
class _Places:
    """Voxels that patches are centred near, ``[n, 3]``, and the running sum of their weights."""

    voxels: np.ndarray
    weight_up_to: np.ndarray | None = None

    def drawn(self, rng: np.random.Generator) -> np.ndarray:
        if self.weight_up_to is None:
            return self.voxels[rng.integers(len(self.voxels))]
        at = np.searchsorted(self.weight_up_to, rng.random() * self.weight_up_to[-1], side="right")
        return self.voxels[min(int(at), len(self.voxels) - 1)]


def _centres(anatomy: ChestAnatomy) -> dict[str, _Places]:
    airway, radius = anatomy.airway_distance_mm < 0, anatomy.airway_radius_mm
    low, high = _SMALL_AIRWAY_RADIUS_MM

    def along(mask: np.ndarray) -> _Places:
        """Evenly over length: a tube has as many voxels in a slice as its radius squared."""
        sections = np.square(radius[mask].astype(np.float64))
        return _Places(np.argwhere(mask), np.cumsum(1.0 / sections))

    body = (anatomy.body_distance_mm < 15)[::4, ::4, ::4]
    pleura = (np.abs(anatomy.lung_distance_mm) < 6) & (anatomy.airway_distance_mm > 10)
    return {
        "small": along(airway & (radius >= low) & (radius < high)),
        "airway": along(airway & (radius >= high)),
        "pleura": _Places(np.argwhere(pleura[::4, ::4, ::4]) * 4),
        "body": _Places(np.argwhere(body) * 4),
    }


def _rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
