"""Chests small enough to make in a moment."""

from __future__ import annotations

import numpy as np
import pytest

from imbalanceseg.geometry import Grid
from imbalanceseg.synthesis.anatomy import ChestAnatomy
from imbalanceseg.synthesis.tree_growth import grow_chest


@pytest.fixture(scope="session")
def chest() -> ChestAnatomy:
    """A grown chest of 0.4 times the size of an adult's, 1 mm voxels."""
    return grow_chest(1, spacing_mm=1.0, scale=0.4)


@pytest.fixture(scope="session")
def coarse_chest() -> ChestAnatomy:
    """The same size in 3 mm voxels: for tests that only need a whole chest."""
    return grow_chest(1, spacing_mm=3.0, scale=0.4)


@pytest.fixture(scope="session")
def tube_in_lung() -> ChestAnatomy:
    """A straight airway of 5 mm radius along z through nothing but lung, 40 x 40 x 40 x 0.8 mm."""
    side, spacing = 40, 0.8
    z, y, x = (np.indices((side,) * 3) - (side - 1) / 2) * spacing
    to_axis = np.hypot(x, y)
    everywhere = np.ones((side,) * 3, np.float16)
    return ChestAnatomy(
        grid=Grid((side,) * 3, (spacing,) * 3, (0.0, 0.0, 0.0), tuple(np.eye(3).ravel())),
        airway_distance_mm=np.clip(to_axis - 5, -12, 12).astype(np.float16),
        airway_radius_mm=5 * everywhere,
        centerline_weight=np.where(to_axis < 5, 1 - np.sqrt(to_axis / 8), 1).astype(np.float16),
        solid_distance_mm=12 * everywhere,
        lung_distance_mm=-12 * everywhere,
        fissure_distance_mm=12 * everywhere,
        body_distance_mm=-40 * everywhere + np.zeros_like(z, np.float16),
    )
