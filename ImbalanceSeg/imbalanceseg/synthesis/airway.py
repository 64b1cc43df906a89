"""Chest CT with exact airway labels: phantoms grown from a seed, and CT over real label maps."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.synthesis.anatomy import ChestAnatomy, anatomy_from_masks
from imbalanceseg.synthesis.chest_ct import ChestStyle, random_style, render_chest_ct
from imbalanceseg.synthesis.difficulty import DEFAULT_DIFFICULTY, require_difficulty
from imbalanceseg.synthesis.tree_growth import grow_chest


def chest_phantom(
    seed: int,
    spacing_mm: float = 0.8,
    scale: float = 1.0,
    style: ChestStyle | None = None,
    difficulty: float = DEFAULT_DIFFICULTY,
) -> tuple[sitk.Image, sitk.Image]:
    """A CT of a chest that never existed, and the exact label of its airways.

    Args:
        seed: same seed, same phantom.
        spacing_mm: isotropic voxel size of the result.
        scale: overall size; 1 is an adult.
        style: appearance; drawn from ``seed`` when None.
        difficulty: 0 gives a third of the style's noise and thick walls, 1 three times the noise,
            thin walls and more blur; 0.5 leaves the style as it is.

    Returns:
        int16 CT in HU and uint8 label, on one LPS grid.

    Raises:
        InputError: the difficulty does not lie in [0, 1].
    """
    difficulty = require_difficulty(difficulty)
    style = as_difficult(style or random_style(np.random.default_rng(seed)), difficulty)
    return ct_over(grow_chest(seed, spacing_mm, scale), seed, style)


def as_difficult(style: ChestStyle, difficulty: float) -> ChestStyle:
    """``style`` with less or more dose, and walls that stand out more or less.

    Args:
        style: left as it is at 0.5.
        difficulty: in [0, 1].
    """
    harder = 2 * difficulty - 1
    return replace(
        style,
        noise=style.noise * 3.0**harder,
        wall=style.wall - 50.0 * harder,
        wall_base_mm=style.wall_base_mm * 1.5**-harder,
        resolution_mm=style.resolution_mm * 1.4**harder,
    )


def render_case(
    masks_folder: str | os.PathLike[str], patient: int, seed: int, style: ChestStyle | None = None
) -> tuple[sitk.Image, sitk.Image]:
    """A CT painted over the label maps of a real patient, and the exact label of its airways.

    Returns:
        int16 CT in HU and uint8 label, 0.8 mm isotropic, on one LPS grid.

    Raises:
        InputError: a label map is missing.
    """
    return ct_over(anatomy_from_masks(Path(masks_folder), patient), seed, style)


def ct_over(
    anatomy: ChestAnatomy, seed: int, style: ChestStyle | None = None
) -> tuple[sitk.Image, sitk.Image]:
    """A CT over an anatomy: int16 HU and the exact uint8 label, on the anatomy's grid."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    style = style or random_style(np.random.default_rng(seed))
    maps = {name: torch.from_numpy(getattr(anatomy, name)).float() for name in anatomy.map_names()}
    hu = render_chest_ct(maps, anatomy.grid.spacing_mm[0], style, generator)
    ct = image_from_array(hu.round().numpy().astype(np.int16), anatomy.grid)
    return ct, image_from_array(anatomy.label, anatomy.grid)


def as_scanned(
    ct: sitk.Image, label: sitk.Image, spacing_mm: tuple[float, float, float]
) -> tuple[sitk.Image, sitk.Image]:
    """The same chest sampled with a scanner's pixel size and slice distance (x, y, z in mm)."""
    grid = Grid.of(ct).with_spacing(spacing_mm)
    return resample(ct, grid, "linear", -1024), resample(label, grid, "nearest")
