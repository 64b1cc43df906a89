"""MR of heads with a tumour and its exact label: like a schwannoma, glioma or metastases."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from imbalanceseg.synthesis.shapes import capsule, filled
from imbalanceseg.synthesis.tumor_growth import (
    Ground,
    Tumor,
    glioma,
    metastases,
    point,
    schwannoma,
    schwannoma_centre,
)

TumorKind = Literal["schwannoma", "glioma", "metastasis"]
TumorContrast = Literal["T1c", "T2", "FLAIR"]
KINDS: tuple[str, ...] = get_args(TumorKind)
TUMOR_CONTRASTS: tuple[str, ...] = get_args(TumorContrast)

HEAD_EXTENT_MM = (166.4, 204.8, 132.0)
"""What a grid over the whole brain, with the skull around it, is wide along x, y and z."""
_UNITS = 1000.0

# What each part looks like at difficulty 0, and what it comes close to at difficulty 1.
_SIGNAL = {
    "T1c": {"solid": 1.6, "cyst": 0.45, "necrosis": 0.42, "oedema": 0.66},
    "T2": {"solid": 1.0, "cyst": 1.65, "necrosis": 1.6, "oedema": 1.3},
    "FLAIR": {"solid": 1.45, "cyst": 0.35, "necrosis": 0.6, "oedema": 1.3},
}
_MIMIC_TISSUE = {"T1c": "vein", "T2": "artery", "FLAIR": "artery"}


def tumor_phantom(
    seed: int,
    kind: TumorKind = "schwannoma",
    contrast: TumorContrast = "T1c",
    spacing_mm: Sequence[float] = (0.8, 0.8, 3.0),
    shape: Sequence[int] | None = None,
    difficulty: float = DEFAULT_DIFFICULTY,
) -> tuple[sitk.Image, sitk.Image]:
    """An MR of a head that never existed, with a tumour, and its exact label.

    A seed stands for a patient: with another contrast or difficulty the same head comes back, with
    the same tumour and label.

    ``schwannoma``: a compact body of 5 to 25 mm in one cerebellopontine angle, mostly with a cone
    in the internal auditory canal, enhancing, at times with cysts; the brainstem gives way. The
    label is the whole tumour, cysts and cone included.

    ``glioma``: 20 to 50 mm, irregular, in the white matter of one hemisphere, with an enhancing
    rim, necrosis inside and oedema around. The label is the tumour core: rim and necrosis, without
    the oedema.

    ``metastasis``: one to four roundish bodies of 4 to 30 mm anywhere in the brain, enhancing, at
    times with necrosis, in oedema of their own. The label is all of them, without the oedema.

    Args:
        seed: same seed and grid, same phantom.
        kind: ``"schwannoma"``, ``"glioma"`` or ``"metastasis"``.
        contrast: ``"T1c"`` (T1 after contrast agent), ``"T2"`` or ``"FLAIR"``.
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
    brain, tumor = grow_tumor(kind, fine, rng, generator, between(0.6, 1.8, difficulty))
    label = _label(tumor.distance_mm, layers, in_one_piece=kind != "metastasis")
    style = mr_style(difficulty, rng)
    image = paint_tissues(brain, contrast, rng, style)
    image = with_mimics(image, brain, contrast, round(8 * difficulty), rng)
    image = _with_tumor(image, brain, tumor, contrast, difficulty, generator)
    scan = scanned(image, fine, layers, style, generator) * _UNITS
    return image_from_array(scan.numpy(), grid), image_from_array(label, grid)


def grow_tumor(
    kind: TumorKind,
    grid: Grid,
    rng: np.random.Generator,
    generator: torch.Generator,
    vessels: float,
) -> tuple[BrainAnatomy, Tumor]:
    """A head and the tumour in it; distances of the tumour in mm of the template.

    Args:
        kind: of the tumour.
        grid: where to make both; its axes must run to L, P and S.
        rng: source of sizes and places.
        generator: source of surfaces.
        vessels: number of vessels on the surface of the brain, 1 for the usual.
    """
    maker = {"schwannoma": _schwannoma, "glioma": _glioma, "metastasis": _metastases}[kind]
    return maker(grid, rng, generator, vessels)


def _grid(kind: str, spacing_mm: Sequence[float], shape: Sequence[int] | None) -> Grid:
    whole = head_grid(spacing_mm, shape, HEAD_EXTENT_MM, (0, 0, 0))
    half = whole.size[2] * whole.spacing_mm[2] / 2
    # The whole brain where it fits; otherwise what holds the tumour.
    up = min(6.0, half - 52) if kind == "schwannoma" else max(6.0, 42 - half)
    return head_grid(spacing_mm, shape, HEAD_EXTENT_MM, (0.0, 15.0, up))


def _label(distance_mm: Tensor, layers: int, in_one_piece: bool) -> np.ndarray:
    """uint8 label of the slices: voxels of which the tumour fills half or more."""
    import cc3d

    inside = (in_slices((distance_mm < 0).float(), layers) >= 0.5).numpy().astype(np.uint8)
    if not inside.any():
        size = " x ".join(str(n) for n in inside.shape[::-1])
        raise InputError(
            "shape-too-small",
            f"The tumour is not to be seen in so few or so large voxels ({size}).",
            "Give more voxels or a coarser spacing, or leave the shape out.",
        )
    if not in_one_piece:
        return inside
    return np.asarray(cc3d.largest_k(inside, k=1, connectivity=26) > 0, np.uint8)


def _schwannoma(
    grid: Grid, rng: np.random.Generator, generator: torch.Generator, vessels: float
) -> tuple[BrainAnatomy, Tumor]:
    scale = float(rng.uniform(0.86, 0.94))
    side = float(rng.choice([-1.0, 1.0]))
    radius = float(np.exp(rng.uniform(math.log(2.5), math.log(12.5)))) / scale
    centre = schwannoma_centre(INTERNAL_CANAL, side, radius, float(rng.uniform(-0.15, 0.2)))
    pushes = (Push(centre, 0.9 * radius),)
    brain = grow_brain(grid, int(rng.integers(2**31)), scale, pushes, vessels)
    return brain, schwannoma(Ground.of(brain, generator), INTERNAL_CANAL, side, centre, radius, rng)


def _glioma(
    grid: Grid, rng: np.random.Generator, generator: torch.Generator, vessels: float
) -> tuple[BrainAnatomy, Tumor]:
    scale = float(rng.uniform(0.86, 0.94))
    radius = float(np.exp(rng.uniform(math.log(10), math.log(25)))) / scale
    centre = (
        float(rng.choice([-1.0, 1.0]) * rng.uniform(22, 40)),
        float(rng.uniform(-32, 58)),
        float(rng.uniform(12, 38)),
    )
    pushes = (Push(centre, 0.55 * radius),)
    brain = grow_brain(grid, int(rng.integers(2**31)), scale, pushes, vessels)
    return brain, glioma(Ground.of(brain, generator), centre, radius, rng)


def _metastases(
    grid: Grid, rng: np.random.Generator, generator: torch.Generator, vessels: float
) -> tuple[BrainAnatomy, Tumor]:
    scale = float(rng.uniform(0.86, 0.94))
    brain = grow_brain(grid, int(rng.integers(2**31)), scale, vessels=vessels)
    ground = Ground.of(brain, generator)
    bodies = [
        (centre, float(np.exp(rng.uniform(math.log(2), math.log(15)))) / scale)
        for centre in ground.places(int(rng.integers(1, 5)), 3.0, rng)
    ]
    return brain, metastases(ground, bodies, rng)


def _with_tumor(
    image: Tensor,
    brain: BrainAnatomy,
    tumor: Tumor,
    contrast: str,
    difficulty: float,
    generator: torch.Generator,
) -> Tensor:
    voxel = brain.grid.spacing_mm[0] / brain.scale
    gain = between(1.0, 0.2, difficulty)
    grain = 1 + 0.06 * Ground.of(brain, generator).noise(4)
    for name, distance in tumor.parts:
        near = "white" if name != "solid" or contrast == "T1c" else "grey"
        dull = TISSUE_SIGNAL[contrast][near]
        value = dull + gain * (_SIGNAL[contrast][name] - dull)
        soft = voxel + (6.0 if name == "oedema" else between(0.2, 2.5, difficulty))
        image = image + (value * grain - image) * filled(distance, soft)
    return image


def with_mimics(
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
        end = point([s + float(w) for s, w in zip(start, way, strict=True)])
        width = [float(w) for w in rng.uniform(0.8, 2.0, 2)]
        thread = torch.maximum(capsule(at, start, end, *width), brain.cavity_distance_mm + 0.5)
        image = image + (value - image) * filled(thread, brain.grid.spacing_mm[0])
    return image
