"""A batch's weights are those of its patches, and nothing is asked of what is not labelled."""

from __future__ import annotations

from typing import get_args

import cc3d
import numpy as np
import pytest
import torch
from torch import Tensor

from imbalanceseg.losses.weights import (
    border_weight,
    centerline_distance_weight,
    local_imbalance_weight,
)
from imbalanceseg.training.weight_maps import WeightName, parted_label, weight_map

NAMES = get_args(WeightName)
SPACING = (2.0, 1.0, 1.0)


def batch(*labels: np.ndarray) -> tuple[Tensor, Tensor]:
    known = [np.where(label == 255, 0, label) for label in labels]
    numbers = [
        cc3d.connected_components(x, connectivity=26 if x.ndim == 3 else 8).astype(np.int32)
        for x in known
    ]
    stacked = (torch.from_numpy(np.stack(x))[:, None] for x in (labels, numbers))
    label, components = stacked
    return label, components


def tree(seed: int) -> np.ndarray:
    label = np.zeros((14, 16, 18), np.uint8)
    shift = seed % 3
    label[2:12, 3 : 6 + shift, 4:7] = 1
    label[5:7, 9:14, 11 + shift : 15] = 1
    return label


@pytest.mark.parametrize("name", NAMES)
def test_every_patch_has_its_own(name: WeightName) -> None:
    labels = [tree(n) for n in range(3)]
    label, components = batch(*labels)
    found = weight_map(name, label, components, SPACING)
    assert found.shape == label.shape
    assert found.dtype == torch.float32
    for number, one in enumerate(labels):
        expected = {
            "border": lambda x, n=number: border_weight(components[n, 0].numpy(), SPACING),
            "centerline": lambda x: centerline_distance_weight(x, SPACING),
            "local_imbalance": local_imbalance_weight,
        }[name](one)
        np.testing.assert_allclose(found[number, 0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_unlabelled_voxels_weigh_nothing(name: WeightName) -> None:
    one = tree(0)
    one[10:] = 255
    found = weight_map(name, *batch(one, np.full_like(one, 255)), SPACING)
    assert not found[0, 0, 10:].any()
    assert (found[0, 0, :10] >= 0).all()
    assert found[0, 0, :10].mean() > 0.1
    assert not found[1].any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, 1])
def test_one_class_alone(name: WeightName, value: int) -> None:
    label, components = batch(np.full((6, 7, 8), value, np.uint8))
    found = weight_map(name, label, components, SPACING)
    assert found.isfinite().all()
    assert (found >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_one_slice(name: WeightName) -> None:
    picture = tree(1)[5]
    flat, solid = batch(picture), batch(picture[None])
    found = weight_map(name, *flat, (1.0, 1.0))
    assert found.shape == (1, 1, 16, 18)
    expected = weight_map(name, *solid, (1.0, 1.0, 1.0))[:, :, 0]
    torch.testing.assert_close(found, expected)


def test_border_weights_are_1_on_average_of_what_is_labelled() -> None:
    one = np.zeros((30, 30), np.uint8)
    one[3:9, 3:9] = 1
    one[:, 20:] = 255
    found = weight_map("border", *batch(one), (1.0, 1.0))[0, 0]
    assert float(found[:, :20].mean()) == pytest.approx(1, abs=1e-5)
    assert float(found[3:9, 3:9].sum()) == pytest.approx(300, rel=1e-5)


def test_the_border_is_counted_in_the_smallest_voxels() -> None:
    one = np.zeros((20, 40), np.uint8)
    one[5:15, 5:16] = one[5:15, 20:35] = 1
    fine = weight_map("border", *batch(one), (0.2, 0.2))
    torch.testing.assert_close(fine, weight_map("border", *batch(one), (1.0, 1.0)))
    assert fine[0, 0, 10, 17] > fine[0, 0, 10, 2] + 5


def test_abutting_instances_are_parted_first() -> None:
    numbers = torch.zeros(1, 1, 20, 40, dtype=torch.int32)
    numbers[..., 5:15, 5:20], numbers[..., 5:15, 20:35] = 4, 9
    label = (numbers > 0).to(torch.uint8)
    label[..., :2] = 255
    whole = weight_map("border", label, numbers, (1.0, 1.0))
    parted = parted_label(label, numbers)
    assert parted.dtype == label.dtype
    different = torch.zeros_like(label, dtype=torch.bool)
    different[..., 5:15, 19:21] = True
    assert torch.equal(parted != label, different)
    assert not parted[different].any()
    found = weight_map("border", parted, numbers, (1.0, 1.0))
    # 1 and 2 voxels from the two.
    bonus = found[0, 0, 10, 19] - found[0, 0, 18, 39]
    assert float(bonus) == pytest.approx(10 * np.exp(-9 / 50), rel=1e-3)
    # Objects are never asked to be background: without parting there is no bonus inside.
    assert whole[0, 0, 5:15, 5:35].unique().numel() == 1
