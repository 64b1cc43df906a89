"""MR of heads with one tumour and its exact label: schwannoma-like and glioma-like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.synthesis.brain import (
    BrainAnatomy,
    Push,
    grow_brain,
    noise_in_mm,
)
from imbalanceseg.synthesis.brain_mr import (
    TISSUE_SIGNAL,
    fine_grid,
    head_grid,
    in_slices,
    mr_style,
    paint_tissues,
    require_one_of,
    scanned,
)
from imbalanceseg.synthesis.brain_template import INTERNAL_CANAL
from imbalanceseg.synthesis.difficulty import DEFAULT_DIFFICULTY, between, require_difficulty
from imbalanceseg.synthesis.shapes import Coordinates, Point, capsule, filled, smooth_union

TumorKind = Literal["schwannoma", "glioma"]
TumorContrast = Literal["T1c", "T2"]
KINDS: tuple[str, ...] = get_args(TumorKind)
TUMOR_CONTRASTS: tuple[str, ...] = get_args(TumorContrast)

_EXTENT_MM = (166.4, 204.8, 132.0)
_UNITS = 1000.0

# What each part looks like at difficulty 0, and what it comes close to at difficulty 1.
_SIGNAL = {
    "T1c": {"solid": 1.6, "cyst": 0.45, "necrosis": 0.42, "oedema": 0.66},
    "T2": {"solid": 1.0, "cyst": 1.65, "necrosis": 1.6, "oedema": 1.3},
}
_MIMIC_TISSUE = {"T1c": "vein", "T2": "artery"}


@dataclass(frozen=True)
class _Tumor:
    """One tumour on the fine grid; distances in mm of the template, negative inside.

    Attributes:
        distance_mm: to the surface of what is labelled.
        parts: signal name and distance of what is painted, in this order.
    """

    distance_mm: Tensor
    parts: Sequence[tuple[str, Tensor]]


def tumor_phantom(
    seed: int,
    kind: TumorKind = "schwannoma",
    contrast: TumorContrast = "T1c",
    spacing_mm: Sequence[float] = (0.8, 0.8, 3.0),
    shape: Sequence[int] | None = None,
    difficulty: float = DEFAULT_DIFFICULTY,
) -> tuple[sitk.Image, sitk.Image]:
    """An MR of a head that never existed, with one tumour, and its exact label.

    A seed stands for a patient: with another contrast or difficulty the same head comes back, with
    the same tumour and label.

    ``schwannoma``: a compact body of 5 to 25 mm in one cerebellopontine angle, mostly with a cone
    in the internal auditory canal, enhancing, at times with cysts; the brainstem gives way. The
    label is the whole tumour, cysts and cone included.

    ``glioma``: 20 to 50 mm, irregular, in the white matter of one hemisphere, with an enhancing
    rim, necrosis inside and oedema around. The label is the tumour core: rim and necrosis, without
    the oedema.

    Args:
        seed: same seed and grid, same phantom.
        kind: ``"schwannoma"`` or ``"glioma"``.
        contrast: ``"T1c"`` (T1 after contrast agent) or ``"T2"``.
        spacing_mm: along x, y and z (through the slices); a slice is as thick as its distance to
            the next and shows the mean of what lies in it.
        shape: voxels ``[Z, Y, X]``; enough for the whole brain when None. A smaller grid lies
            around where such tumours grow.
        difficulty: 0 is plainly visible, 1 barely: contrast falls, noise, blur and soft borders
            grow, and vessels that look like tumour appear. The size does not depend on it.

    Returns:
        float32 image in arbitrary units and uint8 label (1 tumour), on one LPS grid.

    Raises:
        InputError: kind, contrast, difficulty, spacing or shape is unusable.
    """
    require_one_of("kind", kind, KINDS)
    require_one_of("contrast", contrast, TUMOR_CONTRASTS)
    difficulty = require_difficulty(difficulty)
    grid = _grid(kind, spacing_mm, shape)
    fine, layers = fine_grid(grid)
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    maker = _schwannoma if kind == "schwannoma" else _glioma
    brain, tumor = maker(fine, rng, generator, between(0.6, 1.8, difficulty))
    label = _label(tumor.distance_mm, layers)
    style = mr_style(difficulty, rng)
    image = paint_tissues(brain, contrast, rng, style)
    image = _with_mimics(image, brain, contrast, round(8 * difficulty), rng)
    image = _with_tumor(image, brain, tumor, contrast, difficulty, generator)
    scan = scanned(image, fine, layers, style, generator) * _UNITS
    return image_from_array(scan.numpy(), grid), image_from_array(label, grid)


def _grid(kind: str, spacing_mm: Sequence[float], shape: Sequence[int] | None) -> Grid:
    whole = head_grid(spacing_mm, shape, _EXTENT_MM, (0, 0, 0))
    half = whole.size[2] * whole.spacing_mm[2] / 2
    # The whole brain where it fits; otherwise what holds the tumour.
    up = min(6.0, half - 52) if kind == "schwannoma" else max(6.0, 42 - half)
    return head_grid(spacing_mm, shape, _EXTENT_MM, (0.0, 15.0, up))


def _label(distance_mm: Tensor, layers: int) -> np.ndarray:
    """uint8 label of the slices: voxels of which the tumour fills half or more, in one piece."""
    import cc3d

    inside = (in_slices((distance_mm < 0).float(), layers) >= 0.5).numpy().astype(np.uint8)
    if not inside.any():
        size = " x ".join(str(n) for n in inside.shape[::-1])
        raise InputError(
            "shape-too-small",
            f"The tumour is not to be seen in so few or so large voxels ({size}).",
            "Give more voxels or a coarser spacing, or leave the shape out.",
        )
    return np.asarray(cc3d.largest_k(inside, k=1, connectivity=26) > 0, np.uint8)


def _schwannoma(
    grid: Grid, rng: np.random.Generator, generator: torch.Generator, vessels: float
) -> tuple[BrainAnatomy, _Tumor]:
    scale = float(rng.uniform(0.86, 0.94))
    side = float(rng.choice([-1.0, 1.0]))
    radius = float(np.exp(rng.uniform(math.log(2.5), math.log(12.5)))) / scale
    mouth, end = ((side * x, y, z) for x, y, z in INTERNAL_CANAL)
    centre = (
        mouth[0] - side * 0.72 * radius,
        mouth[1] + 0.22 * radius,
        mouth[2] + float(rng.uniform(-0.15, 0.2)) * radius,
    )
    pushes = (Push(centre, 0.9 * radius),)
    brain = grow_brain(grid, int(rng.integers(2**31)), scale, pushes, vessels)
    at = brain.at

    def noise(grain_mm: float) -> Tensor:
        return _noise(brain, grain_mm, generator)

    squeeze = rng.uniform(0.9, 1.12, 3)
    around = Coordinates(*(o * float(q) for o, q in zip(at.offsets(centre), squeeze, strict=True)))
    ball = around.distance((0, 0, 0)) - radius * (1 + 0.09 * noise(0.9 * radius))
    distance = ball
    if rng.random() < 0.75:
        along = float(rng.uniform(0.45, 1.0))
        tip = tuple(m + along * (e - m) for m, e in zip(mouth, end, strict=True))
        root = tuple(m - 0.3 * (e - m) for m, e in zip(mouth, end, strict=True))
        cone = capsule(at, _point(root), _point(tip), 3.0, 2.1)
        distance = smooth_union(ball, cone, 2.0)
    parts = [("solid", distance)]
    if radius > 5 and rng.random() < 0.45:
        for _ in range(int(rng.integers(1, 4))):
            way = rng.normal(size=3)
            way *= 0.5 * radius / np.linalg.norm(way)
            where = _point([c + float(w) for c, w in zip(centre, way, strict=True)])
            cyst = at.distance(where) - radius * float(rng.uniform(0.18, 0.42))
            parts.append(("cyst", torch.maximum(cyst + 0.6 * noise(4), distance + 1.2)))
    return brain, _Tumor(distance, parts)


def _glioma(
    grid: Grid, rng: np.random.Generator, generator: torch.Generator, vessels: float
) -> tuple[BrainAnatomy, _Tumor]:
    scale = float(rng.uniform(0.86, 0.94))
    radius = float(np.exp(rng.uniform(math.log(10), math.log(25)))) / scale
    centre = (
        float(rng.choice([-1.0, 1.0]) * rng.uniform(22, 40)),
        float(rng.uniform(-32, 58)),
        float(rng.uniform(12, 38)),
    )
    pushes = (Push(centre, 0.55 * radius),)
    brain = grow_brain(grid, int(rng.integers(2**31)), scale, pushes, vessels)

    def noise(grain_mm: float) -> Tensor:
        return _noise(brain, grain_mm, generator)

    squeeze = rng.uniform(0.8, 1.3, 3)
    offsets = brain.at.offsets(centre)
    around = Coordinates(*(o * float(q) for o, q in zip(offsets, squeeze, strict=True)))
    ragged = 0.2 * noise(1.1 * radius) + 0.07 * noise(5)
    core = around.distance((0, 0, 0)) - radius * (1 + ragged)
    # It neither leaves the brain nor fills the ventricles.
    inside = torch.maximum(brain.brain_distance_mm + 1.0, 0.5 - brain.ventricle_distance_mm)
    core = torch.maximum(core, torch.minimum(inside, core + 0.45 * radius))
    core = torch.maximum(core, torch.maximum(brain.cavity_distance_mm + 3, inside - 3))
    rim = (0.16 * radius + 1.2) * (1 + 0.35 * noise(9)).clamp(min=0.4)
    necrosis = torch.maximum(core + rim, 2.5 * (-0.9 - noise(0.7 * radius)))
    spread = float(rng.uniform(5, 18))
    fingers = spread * (1 + 0.45 * noise(14))
    white = brain.share("white", "deep_grey", "pallidum")
    oedema = torch.maximum(core - fingers, (0.5 - white) * 14)
    parts = [("oedema", oedema), ("solid", core), ("necrosis", necrosis)]
    return brain, _Tumor(core, parts)


def _noise(brain: BrainAnatomy, grain_mm: float, generator: torch.Generator) -> Tensor:
    spacing = [s / brain.scale for s in brain.grid.spacing_mm[::-1]]
    return noise_in_mm(brain.brain_distance_mm.shape, spacing, grain_mm, generator)


def _with_tumor(
    image: Tensor,
    brain: BrainAnatomy,
    tumor: _Tumor,
    contrast: str,
    difficulty: float,
    generator: torch.Generator,
) -> Tensor:
    voxel = brain.grid.spacing_mm[0] / brain.scale
    gain = between(1.0, 0.2, difficulty)
    grain = 1 + 0.06 * _noise(brain, 4, generator)
    for name, distance in tumor.parts:
        near = "white" if name != "solid" or contrast == "T1c" else "grey"
        dull = TISSUE_SIGNAL[contrast][near]
        value = dull + gain * (_SIGNAL[contrast][name] - dull)
        soft = voxel + (6.0 if name == "oedema" else between(0.2, 2.5, difficulty))
        image = image + (value * grain - image) * filled(distance, soft)
    return image


def _with_mimics(
    image: Tensor, brain: BrainAnatomy, contrast: str, count: int, rng: np.random.Generator
) -> Tensor:
    """Short stretches of vessel in the spaces around the brain, with the signal of vessels."""
    outside = (brain.cavity_distance_mm < -1) & (brain.brain_distance_mm > 1)
    places = torch.nonzero(outside & (brain.ventricle_distance_mm > 4))
    value = TISSUE_SIGNAL[contrast][_MIMIC_TISSUE[contrast]]
    for pick in rng.random((count if len(places) else 0, 1)):
        z, y, x = (int(n) for n in places[int(pick[0] * len(places))])
        at = brain.at
        start = (float(at.x[0, 0, x]), float(at.y[0, y, 0]), float(at.z[z, 0, 0]))
        way = rng.normal(size=3)
        way *= rng.uniform(2, 9) / np.linalg.norm(way)
        end = _point([s + float(w) for s, w in zip(start, way, strict=True)])
        width = [float(w) for w in rng.uniform(0.8, 2.0, 2)]
        thread = torch.maximum(capsule(at, start, end, *width), brain.cavity_distance_mm + 0.5)
        image = image + (value - image) * filled(thread, brain.grid.spacing_mm[0])
    return image


def _point(values: Sequence[float]) -> Point:
    x, y, z = values
    return x, y, z
