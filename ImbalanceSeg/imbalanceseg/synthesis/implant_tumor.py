"""Tumours painted into a volume whose own texture stays: a phantom's, or a real scan's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid
from imbalanceseg.synthesis.brain import noise_in_mm
from imbalanceseg.synthesis.brain_mr import TISSUE_SIGNAL
from imbalanceseg.synthesis.fields import blur
from imbalanceseg.synthesis.shapes import Box, Coordinates, Point, filled
from imbalanceseg.synthesis.tumor_growth import (
    Ground,
    Tumor,
    glioma,
    meningioma,
    metastases,
    schwannoma,
    schwannoma_centre,
)
from imbalanceseg.synthesis.tumor_hosts import Host

ImplantKind = Literal["glioma", "metastasis", "meningioma", "schwannoma"]

# Ranges of each part's signal, in the units of TISSUE_SIGNAL.
_RANGES = {
    "T1c": {
        "solid": (0.98, 2.2), "cyst": (0.3, 0.6), "necrosis": (0.35, 0.65), "oedema": (0.52, 0.76),
        "fringe": (0.55, 0.85),
    },
    "T2": {
        "solid": (0.95, 1.4), "cyst": (1.4, 1.9), "necrosis": (1.2, 1.8), "oedema": (1.05, 1.5),
        "fringe": (0.9, 1.4),
    },
    "FLAIR": {
        "solid": (1.15, 1.6), "cyst": (0.2, 0.9), "necrosis": (0.3, 1.2), "oedema": (1.15, 1.7),
        "fringe": (1.0, 1.6),
    },
}  # fmt: skip
_ALL_SOLID = 0.2
_WITH_FRINGE = 0.6
_FRINGE_MM = (1.0, 6.0)
_TEXTURE_MM = 1.2
_REACH_MM = 32.0
_OEDEMA_MM = 20.0
_OFF_OWN_DISEASE_MM = 4.0


@dataclass(frozen=True)
class Implanted:
    """A volume with a tumour in it, ``[D, H, W]``.

    Attributes:
        image: float32.
        core: 1 in the tumour without its oedema, else 0; float32.
        box: nothing changed outside it.
    """

    image: Tensor
    core: Tensor
    box: Box


def draw_signals(contrast: str, rng: np.random.Generator) -> dict[str, float]:
    """A signal for each part of a tumour, from faint to plain, in units of ``TISSUE_SIGNAL``.

    Some have none for necrosis: there the tumour is solid throughout.
    """
    signals = {
        part: float(np.exp(rng.uniform(math.log(low), math.log(high))))
        for part, (low, high) in _RANGES[contrast].items()
    }
    if rng.random() < _ALL_SOLID:
        del signals["necrosis"]
    return signals


def paint_tumor(
    image: Tensor,
    tumor: Tumor,
    signals: Mapping[str, float],
    voxel_mm: float,
    soft_mm: float,
    texture: Tensor,
) -> Tensor:
    """A tumour over a volume.

    Voxels further outside every part than ``voxel_mm + 6`` keep their value exactly.

    Args:
        image: float32 ``[D, H, W]``.
        tumor: distances on the same grid.
        signals: of each part that is to be seen.
        voxel_mm: distance of the voxels.
        soft_mm: width of the border, added to a voxel's.
        texture: what is added to the tumour's own even signal.
    """
    for name, distance in tumor.parts:
        if name not in signals:
            continue
        soft = voxel_mm + (6.0 if name == "oedema" else soft_mm)
        # Oedema lets through what it lies in.
        most = 0.8 if name == "oedema" else 1.0
        image = image + (signals[name] + texture - image) * (most * filled(distance, soft))
    return image


def implant_tumor(host: Host, kind: ImplantKind, smallest_mm: float, seed: int) -> Implanted:
    """A tumour grown in a real scan, with the scan's own noise and levels.

    Args:
        host: the scan.
        kind: what grows; a schwannoma needs a host whose terrain knows the canal.
        smallest_mm: radius below which no tumour, or no largest metastasis, is drawn.
        seed: same seed, same tumour.

    Raises:
        InputError: ``no-room-for-tumor``.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    bodies, grow = _planned(host, kind, smallest_mm, rng)
    box = _box(host.terrain.grid, bodies)
    ground = _ground(host, box, generator)
    tumor = _off_own_disease(grow(ground), host.terrain.unlabelled_mm[box])
    signals = {p: _level(host, v) for p, v in draw_signals(host.contrast, rng).items()}
    part = host.image[box]
    spacing = host.terrain.grid.spacing_mm
    rough = float(rng.uniform(0.02, 0.12)) * ground.noise(float(rng.uniform(2.5, 7)))
    texture = _noise_of(part, ground.brain_mm, spacing) + host.white * rough
    changed = paint_tumor(
        part, tumor, signals, spacing[0], float(rng.uniform(0.2, 2.0)), texture
    ).clamp(min=0)
    if not host.terrain.skull:
        changed = torch.where((part > 0) | (tumor.distance_mm < 0), changed, part)
    image, core = host.image.clone(), torch.zeros_like(host.image)
    image[box] = changed
    core[box] = (tumor.distance_mm < 0).float()
    return Implanted(image, core, box)


Bodies = list[tuple[Point, float]]


def _planned(
    host: Host, kind: ImplantKind, smallest_mm: float, rng: np.random.Generator
) -> tuple[Bodies, Callable[[Ground], Tumor]]:
    """Centres and radii in LPS mm, and what grows them."""

    def radius(low: float, high: float) -> float:
        low = max(low, min(smallest_mm, high))
        return float(np.exp(rng.uniform(math.log(low), math.log(high))))

    if kind == "schwannoma":
        canal = host.terrain.canal
        if canal is None:
            raise _no_room(kind, host)
        side, size = float(rng.choice([-1.0, 1.0])), radius(2.5, 12.5)
        centre = schwannoma_centre(canal, side, size, float(rng.uniform(-0.15, 0.2)))
        return [(centre, size)], lambda g: schwannoma(g, canal, side, centre, size, rng)
    if kind == "metastasis":
        sizes = [radius(3, 14)] + [radius(2, 10) for _ in range(int(rng.integers(0, 4)))]
        bodies = [(_place(host, 3.0, 60.0, r + 8, rng), r) for r in sizes]
        return bodies, lambda g: metastases(g, bodies, rng)
    if kind == "meningioma":
        size = radius(5, 20)
        centre = _place(host, 0.2 * size, 0.75 * size, size + 8, rng)
        return [(centre, size)], lambda g: meningioma(g, centre, size, rng)
    size = radius(6, 23)
    centre = _place(host, min(0.8 * size, 14), 60.0, size + 8, rng)
    fringe = float(rng.uniform(*_FRINGE_MM)) if rng.random() < _WITH_FRINGE else 0.0
    return [(centre, size)], lambda g: glioma(g, centre, size, rng, fringe)


def _place(
    host: Host, least_mm: float, most_mm: float, clear_mm: float, rng: np.random.Generator
) -> Point:
    """A point of the brain between two depths, clear of ventricles and the patient's disease."""
    terrain = host.terrain
    free = (terrain.brain_mm < -least_mm) & (terrain.brain_mm > -most_mm)
    free &= (terrain.ventricle_mm > 3) & (terrain.unlabelled_mm > clear_mm)
    where = torch.nonzero(free)
    if not len(where):
        raise _no_room("tumour", host)
    z, y, x = where[int(rng.random() * len(where))].tolist()
    i, j, k = terrain.grid.index_to_physical((x, y, z))
    return float(i), float(j), float(k)


def _no_room(kind: str, host: Host) -> InputError:
    return InputError(
        "no-room-for-tumor",
        f"There is no room for a {kind} in {host.name}.",
        "Implant a smaller one, or choose another scan.",
    )


def _box(grid: Grid, bodies: Bodies) -> Box:
    ends = [grid.physical_to_index(np.add(c, s * (2.2 * r + _REACH_MM))) for c, r in bodies
            for s in (-1, 1)]  # fmt: skip
    low, high = np.floor(np.min(ends, axis=0)), np.ceil(np.max(ends, axis=0))
    x, y, z = (
        slice(max(0, int(a)), min(n, int(b) + 1))
        for a, b, n in zip(low, high, grid.size, strict=True)
    )
    return z, y, x


def _ground(host: Host, box: Box, generator: torch.Generator) -> Ground:
    terrain = host.terrain
    spacing = terrain.grid.spacing_mm
    x, y, z = (
        torch.arange(b.start, b.stop, dtype=torch.float32) * s + o
        for b, s, o in zip(box[::-1], spacing, terrain.grid.origin_mm, strict=True)
    )
    brain = terrain.brain_mm[box]

    def noise(grain_mm: float) -> Tensor:
        return noise_in_mm(brain.shape, spacing[::-1], grain_mm, generator)

    def white() -> Tensor:
        even = blur(host.image[box], [1.0 / s for s in spacing[::-1]])
        return 1 - ((even / host.white - 1).abs() / 0.35).clamp(0, 1)

    at = Coordinates(x[None, None, :], y[None, :, None], z[:, None, None])
    return Ground(at, brain, terrain.ventricle_mm[box], brain - 1.0, white, noise)


def _off_own_disease(tumor: Tumor, unlabelled_mm: Tensor) -> Tumor:
    """Nothing of the tumour near the patient's disease, nor at the border of the box."""
    border = _OFF_OWN_DISEASE_MM - unlabelled_mm
    reach = torch.maximum(border, tumor.distance_mm - _OEDEMA_MM)
    parts = [(name, torch.maximum(distance, reach)) for name, distance in tumor.parts]
    return Tumor(torch.maximum(tumor.distance_mm, border), parts)


def _level(host: Host, signal: float) -> float:
    """The scan's value of a signal of the recipe: as far on from white matter, by CSF or by 0."""
    white, csf = (TISSUE_SIGNAL[host.contrast][t] for t in ("white", "csf"))
    share = (signal - white) / (csf - white)
    if share > 0:
        return host.white + share * (host.csf - host.white)
    return host.white * signal / white


def _noise_of(image: Tensor, brain_mm: Tensor, spacing_mm: tuple[float, float, float]) -> Tensor:
    """The scan's own grain where the tumour comes to lie, without the edges of the anatomy."""
    grain = image - blur(image, [_TEXTURE_MM / s for s in spacing_mm[::-1]])
    inside = grain[brain_mm < -2]
    if not len(inside):
        return torch.zeros_like(image)
    limit = 2.5 * float(inside.abs().median())
    return grain.clamp(-limit, limit)
