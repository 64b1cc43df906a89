"""A case's weights are those of the papers, and nothing is asked of what is not labelled."""

from __future__ import annotations

from typing import get_args

import cc3d
import numpy as np
import pytest

from imbalanceseg.losses.weights import (
    border_weight,
    centerline_distance_weight,
    local_imbalance_weight,
)
from imbalanceseg.planning.imbalance import WeightName
from imbalanceseg.training.weight_maps import case_weight, parted

NAMES = [name for name in get_args(WeightName) if name != "none"]
SPACING = (2.0, 1.0, 1.0)


def numbered(label: np.ndarray) -> np.ndarray:
    known = np.where(label == 255, 0, label)
    connectivity = 26 if label.ndim == 3 else 8
    return cc3d.connected_components(known, connectivity=connectivity).astype(np.int32)


def weight_of(name: WeightName, label: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    return case_weight(name, label, numbered(label), spacing)


def tree(seed: int) -> np.ndarray:
    label = np.zeros((14, 16, 18), np.uint8)
    shift = seed % 3
    label[2:12, 3 : 6 + shift, 4:7] = 1
    label[5:7, 9:14, 11 + shift : 15] = 1
    return label


@pytest.mark.parametrize("name", NAMES)
def test_they_are_those_of_the_losses(name: WeightName) -> None:
    label = tree(1)
    found = weight_of(name, label, SPACING)
    assert (found.shape, found.dtype) == (label.shape, np.float32)
    expected = {
        "border": lambda: border_weight(numbered(label), SPACING),
        "centerline": lambda: centerline_distance_weight(label, SPACING),
        "local_imbalance": lambda: local_imbalance_weight(label),
    }[name]()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_unlabelled_voxels_weigh_nothing(name: WeightName) -> None:
    one = tree(0)
    one[10:] = 255
    found = weight_of(name, one, SPACING)
    assert not found[10:].any()
    assert (found[:10] >= 0).all()
    assert found[:10].mean() > 0.1
    assert not weight_of(name, np.full_like(one, 255), SPACING).any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, 1])
def test_one_class_alone(name: WeightName, value: int) -> None:
    found = weight_of(name, np.full((6, 7, 8), value, np.uint8), SPACING)
    assert np.isfinite(found).all()
    assert (found >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_one_slice(name: WeightName) -> None:
    picture = tree(1)[5]
    found = weight_of(name, picture, (1.0, 1.0))
    assert found.shape == (16, 18)
    np.testing.assert_allclose(found, weight_of(name, picture[None], (1.0, 1.0, 1.0))[0])


def test_border_weights_are_1_on_average_of_what_is_labelled() -> None:
    one = np.zeros((30, 30), np.uint8)
    one[3:9, 3:9] = 1
    one[:, 20:] = 255
    found = weight_of("border", one, (1.0, 1.0))
    assert float(found[:, :20].mean()) == pytest.approx(1, abs=1e-5)
    assert float(found[3:9, 3:9].sum()) == pytest.approx(300, rel=1e-5)


def test_the_border_is_counted_in_the_smallest_voxels() -> None:
    one = np.zeros((20, 40), np.uint8)
    one[5:15, 5:16] = one[5:15, 20:35] = 1
    fine = weight_of("border", one, (0.2, 0.2))
    np.testing.assert_allclose(fine, weight_of("border", one, (1.0, 1.0)))
    assert fine[10, 17] > fine[10, 2] + 5


def test_abutting_instances_are_parted_first() -> None:
    numbers = np.zeros((20, 40), np.int32)
    numbers[5:15, 5:20], numbers[5:15, 20:35] = 4, 9
    label = (numbers > 0).astype(np.uint8)
    label[:, :2] = 255
    apart = parted(label, numbers)
    assert apart.dtype == label.dtype
    different = np.zeros(label.shape, bool)
    different[5:15, 19:21] = True
    np.testing.assert_array_equal(apart != label, different)
    assert not apart[different].any()
    found = case_weight("border", label, numbers, (1.0, 1.0))
    # 1 and 2 voxels from the two.
    bonus = found[10, 19] - found[18, 39]
    assert float(bonus) == pytest.approx(10 * np.exp(-9 / 50), rel=1e-3)
    # Objects are never asked to be background: what is left of them weighs alike.
    assert np.unique(found[apart == 1]).size == 1
