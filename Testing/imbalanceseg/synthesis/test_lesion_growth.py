from __future__ import annotations

import cc3d
import numpy as np
import pytest
import torch

from imbalanceseg.synthesis.brain import grow_brain
from imbalanceseg.synthesis.brain_mr import head_grid
from imbalanceseg.synthesis.lesion_growth import grow_lesions

WANTED_MM3 = np.asarray([9000.0, 3000, 1000, 400] + [100] * 5 + [40] * 10 + [8] * 15)
VOXEL_MM3 = 8.0


@pytest.fixture(scope="module")
def brain():
    return grow_brain(head_grid((2.0,) * 3, None, (144, 176, 144), (0, 15.5, 8)), seed=2)


def grown(brain, seed=0, volumes=WANTED_MM3):
    return grow_lesions(
        brain, volumes, np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_lesions_have_the_volumes_asked_for_and_do_not_touch(brain, seed):
    instances = grown(brain, seed)
    volumes = np.bincount(instances.ravel())[1:] * VOXEL_MM3
    assert len(volumes) == len(WANTED_MM3)
    assert (np.abs(volumes - WANTED_MM3) <= 0.3 * WANTED_MM3 + VOXEL_MM3).all()
    components = cc3d.connected_components((instances > 0).astype(np.uint8), connectivity=26)
    assert components.max() == len(WANTED_MM3)


def test_lesions_lie_in_white_matter_half_of_them_near_the_ventricles(brain):
    small = np.full(150, 30.0)
    instances = grown(brain, 3, small)
    assert float(brain.share("white").numpy()[instances > 0].min()) > 0.6
    near = brain.ventricle_distance_mm.numpy() < 10
    first_voxels = {n: np.argmax(instances.ravel() == n) for n in range(1, instances.max() + 1)}
    share_near = np.mean([near.ravel()[v] for v in first_voxels.values()])
    white = brain.share("white").numpy() > 0.6
    assert share_near > 2 * near[white].mean()


def test_growth_follows_its_seed(brain):
    np.testing.assert_array_equal(grown(brain, 5), grown(brain, 5))
    assert (grown(brain, 5) != grown(brain, 6)).any()


def test_lesions_without_room_are_left_out(brain):
    instances = grown(brain, 0, np.asarray([5e6, 100.0]))
    assert instances.max() == 1
    assert 50 < (instances > 0).sum() * VOXEL_MM3 < 150
