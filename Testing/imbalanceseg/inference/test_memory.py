from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from imbalanceseg import geometry
from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.inference import memory, predict, restore
from imbalanceseg.inference.memory import bytes_per_voxel, memory_budget
from imbalanceseg.inference.restore import affordable
from imbalanceseg.inference.segment import segment

from .test_segment import IDENTITY, OBLIQUE, dark, dice, picture, upright, voxels


def test_the_budget_is_what_was_allowed_or_most_of_what_is_free(monkeypatch):
    assert memory_budget(4) == 4 * 2**30
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    assert memory_budget() == 600


@pytest.mark.parametrize("wrong", [0, -1, 0.1, float("nan")])
def test_too_small_a_budget_is_refused(wrong, dark_model):
    with pytest.raises(InputError) as refused:
        segment(picture(upright()), dark_model, memory_gb=wrong)
    assert refused.value.code == "memory-too-small"


def test_a_network_needs_three_of_its_largest_maps():
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 8, 1), torch.nn.Conv3d(8, 2, 1)).eval()
    assert bytes_per_voxel(network, torch.zeros(1, 1, 4, 4, 4)) == 3 * 4 * 8


def test_maps_that_do_not_fit_are_named(monkeypatch, random_model):
    monkeypatch.setattr(memory, "memory_budget", lambda gb: 2**20)
    from imbalanceseg.inference import segment as module

    image = image_from_array(
        np.random.default_rng(0).uniform(0, 200, (32, 32, 32)).astype(np.float32), upright()
    )
    monkeypatch.setattr(module, "memory_budget", lambda gb: 12 * 32**3)
    monkeypatch.setattr(predict._Run, "_most_voxels", lambda *_: 32**3)
    found = segment(image, random_model)
    assert found.attention is not None
    assert found.hardness is None
    assert found.probability is None
    assert found.hardness_kind is None
    assert any("hardness was left out" in note for note in found.notes)
    whole = segment(image, random_model, memory_gb=4)
    np.testing.assert_array_equal(voxels(found.labels), voxels(whole.labels))


def test_the_most_wanted_maps_are_kept():
    # Labels of 10 bytes, two maps and a copy of one: three quarters of what is allowed
    needed = 10 + 3 * 40
    assert affordable(["a", "b", "c"], 10, 4 * needed // 3 + 1) == (["a", "b"], ["c"])
    assert affordable(["a", "b", "c"], 10, 4 * needed // 3 - 1) == (["a"], ["b", "c"])
    assert affordable(["a"], 10**9, 100) == ([], ["a"])


def test_memory_makes_tiles_smaller_and_says_so(dark_model, monkeypatch):
    monkeypatch.setattr(predict._Run, "_each_voxel", 2**30 / 16**3)
    grid = upright(44)
    found = segment(picture(grid), dark_model, maps=(), memory_gb=1)
    assert any("smaller" in note for note in found.notes)
    assert dice(voxels(found.labels) == 1, dark(grid)) > 0.98


@pytest.mark.parametrize("direction", [IDENTITY, OBLIQUE, (0, 0, -1, 1, 0, 0, 0, -1, 0)])
@pytest.mark.parametrize("spacing", [(0.4, 0.5, 0.6), (1.0, 1.0, 1.0), (2.3, 2.0, 1.9)])
def test_resampling_by_slabs_changes_nothing(direction, spacing, monkeypatch):
    draw = np.random.default_rng(0)
    source = Grid((30, 34, 28), (1.0, 1.1, 0.9), (3.0, -5.0, 7.0), direction)
    image = image_from_array(draw.integers(-900, 900, (28, 34, 30)).astype(np.int16), source)
    target = source.oriented_lps().with_spacing(spacing)
    target = target.cropped((-2, 3, 0), target.size)
    for kind in (None, sitk.sitkFloat32):
        whole = resample(image, target, "linear", -1000, kind)
        with monkeypatch.context() as patched:
            patched.setattr(geometry, "_LARGE_VOXELS", 0)
            patched.setattr(geometry, "_SLAB_VOXELS", 3000)
            patched.setattr(geometry, "_shrunk_towards", lambda image, grid: image)
            parts = resample(image, target, "linear", -1000, kind)
        assert parts.GetPixelID() == whole.GetPixelID()
        assert Grid.of(parts) == Grid.of(whole)
        np.testing.assert_allclose(voxels(parts), voxels(whole), atol=1 if kind is None else 1e-3)


def test_restoring_by_slabs_changes_nothing(dark_model, monkeypatch):
    grid = Grid((40, 36, 30), (0.8, 0.9, 1.1), (2.0, 1.0, -3.0), OBLIQUE)
    image = picture(grid)
    whole = segment(image, dark_model)
    monkeypatch.setattr(restore, "_SLAB_VOXELS", 4000)
    parts = segment(image, dark_model)
    for name in ("labels", "probability", "hardness", "attention"):
        np.testing.assert_allclose(
            voxels(getattr(parts, name)), voxels(getattr(whole, name)), atol=1e-5
        )


def test_a_large_image_is_shrunk_before_it_gets_much_coarser(monkeypatch):
    source = Grid((60, 50, 40), (0.5, 0.6, 0.7), (3.0, -5.0, 7.0), OBLIQUE)
    ramp = np.add.outer(np.arange(40) * 7.0, np.add.outer(np.arange(50) * 6.0, np.arange(60) * 5.0))
    image = image_from_array(ramp.astype(np.float32), source)
    target = source.with_spacing((4.0, 4.0, 4.0)).cropped((1, 1, 1), (5, 5, 4))
    whole = resample(image, target)
    monkeypatch.setattr(geometry, "_LARGE_VOXELS", 0)
    shrunk = resample(image, target)
    assert Grid.of(shrunk) == target
    np.testing.assert_allclose(voxels(shrunk), voxels(whole), atol=2)
