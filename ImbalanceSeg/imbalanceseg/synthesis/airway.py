"""Chest CT with exact airway labels: phantoms grown from a seed, and CT over real label maps."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.synthesis.anatomy import ChestAnatomy, anatomy_from_masks
from imbalanceseg.synthesis.chest_ct import ChestStyle, random_style, render_chest_ct
from imbalanceseg.synthesis.tree_growth import grow_chest


def chest_phantom(
    seed: int, spacing_mm: float = 0.8, scale: float = 1.0, style: ChestStyle | None = None
) -> tuple[sitk.Image, sitk.Image]:
    """A CT of a chest that never existed, and the exact label of its airways.

    Args:
        seed: same seed, same phantom.
        spacing_mm: isotropic voxel size of the result.
        scale: overall size; 1 is an adult.
        style: appearance; drawn from ``seed`` when None.

    Returns:
        int16 CT in HU and uint8 label, on one LPS grid.
    """
    return ct_over(grow_chest(seed, spacing_mm, scale), seed, style)


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
