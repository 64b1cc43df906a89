"""Weight maps against hand-computable shapes and a real airway tree."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalanceseg.errors import InputError
from imbalanceseg.losses import centerline_distance_weight, local_imbalance_weight


def rod(radius: int, length: int = 25, size: int = 21) -> np.ndarray:
    """A round rod along Z through the centre of the array."""
    y, x = np.ogrid[:size, :size]
    disc = (y - size // 2) ** 2 + (x - size // 2) ** 2 <= radius**2
    label = np.zeros((length, size, size), dtype=np.uint8)
    label[2:-2] = disc
    return label


def test_rod_weighs_one_on_its_axis_and_falls_towards_its_wall() -> None:
    label = rod(6)
    weight = centerline_distance_weight(label, (1.0, 1.0, 1.0))
    middle = weight[12]
    assert middle[10, 10] == 1.0
    assert weight[label > 0].min() == 0.0
    assert weight.max() == 1.0
    assert np.all(weight[label == 0] == 1.0)
    profile = middle[10, 10:17]
    assert np.all(np.diff(profile) < 0)
    farthest = 6 / (1 - profile[6]) ** 2
    assert 6 <= farthest < 9
    np.testing.assert_allclose(profile, 1 - (np.arange(7) / farthest) ** 0.5, atol=1e-6)


def test_one_farthest_distance_per_case_spares_thin_branches() -> None:
    label = np.concatenate([rod(8), rod(2)], axis=2)
    weight = centerline_distance_weight(label, (1.0, 1.0, 1.0))
    thin = weight[12, :, 21:][label[12, :, 21:] > 0]
    assert thin.min() > 1 - (2 / 8) ** 0.5 - 0.1
    assert weight[:, :, :21][label[:, :, :21] > 0].min() == 0.0


def test_distance_is_in_millimetres() -> None:
    label = rod(5)
    weight = centerline_distance_weight(label, (1.0, 1.0, 3.0))
    assert weight[12, 10, 13] < weight[12, 13, 10]
    scaled = centerline_distance_weight(label, (2.0, 2.0, 6.0))
    np.testing.assert_allclose(weight, scaled, atol=1e-6)


@pytest.mark.parametrize("fill", [0, 255])
def test_no_foreground_weighs_one(fill: int) -> None:
    label = np.full((8, 9, 10), fill, dtype=np.uint8)
    assert np.all(centerline_distance_weight(label, (1, 1, 1)) == 1.0)
    assert np.all(local_imbalance_weight(label) == 1.0)


def test_single_voxel_and_thin_line_weigh_one() -> None:
    label = np.zeros((9, 9, 9), dtype=np.uint8)
    label[4, 4, 4] = 1
    assert np.all(centerline_distance_weight(label, (1, 1, 1)) == 1.0)
    label[:, 4, 4] = 1
    assert np.all(centerline_distance_weight(label, (1, 1, 1)) == 1.0)


def test_local_imbalance_of_a_lonely_voxel() -> None:
    label = np.zeros((15, 15, 15), dtype=np.uint8)
    label[7, 7, 7] = 1
    weight = local_imbalance_weight(label)
    assert weight[7, 7, 7] == pytest.approx(0.95 * np.log10(343) ** 2.5 + 0.05, rel=1e-5)
    assert np.all(weight[label == 0] == 1.0)


def test_local_imbalance_deep_inside_is_the_floor() -> None:
    label = np.zeros((21, 21, 21), dtype=np.uint8)
    label[3:18, 3:18, 3:18] = 1
    weight = local_imbalance_weight(label)
    assert weight[10, 10, 10] == pytest.approx(0.05, abs=1e-6)
    assert weight[3, 3, 3] > weight[3, 3, 10] > weight[3, 10, 10] > 0.05


@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 1.0))
@settings(max_examples=20, deadline=None)
def test_weights_are_finite_and_in_range(seed: int, share: float) -> None:
    label = (np.random.default_rng(seed).random((9, 8, 7)) < share).astype(np.uint8)
    distance = centerline_distance_weight(label, (2.0, 0.7, 0.7))
    assert np.isfinite(distance).all()
    assert distance.min() >= 0
    assert distance.max() <= 1
    local = local_imbalance_weight(label)
    assert np.isfinite(local).all()
    assert local.min() >= 0.05 - 1e-6


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        centerline_distance_weight(np.zeros((3, 3), dtype=np.uint8), (1, 1, 1))
    assert caught.value.code == "label-not-3d"
    for spacing in ((1, 1), (1, 0, 1), (1, float("nan"), 1)):
        with pytest.raises(InputError) as caught:
            centerline_distance_weight(np.zeros((3, 3, 3), dtype=np.uint8), spacing)
        assert caught.value.code == "spacing-invalid"


def test_thin_branches_of_a_real_tree_outweigh_the_trachea_wall() -> None:
    folder = os.environ.get("IMBALANCESEG_DATA")
    if not folder:
        pytest.skip("IMBALANCESEG_DATA is not set")
    masks = sorted(Path(folder, "airway_medmpd_masks").rglob("*.nii.gz"))
    if not masks:
        pytest.skip("no airway mask under IMBALANCESEG_DATA")
    image = sitk.ReadImage(str(masks[0]))
    label = (sitk.GetArrayFromImage(image) > 0).astype(np.uint8)
    low = [max(0, int(c.min())) for c in np.nonzero(label)]
    high = [int(c.max()) + 1 for c in np.nonzero(label)]
    label = label[tuple(slice(a, b) for a, b in zip(low, high, strict=True))][::2, ::2, ::2]
    weight = centerline_distance_weight(label, [2 * s for s in image.GetSpacing()[::-1]])
    foreground = label > 0
    assert weight[foreground].min() == 0.0
    assert weight[foreground].max() == 1.0
    local = local_imbalance_weight(label)
    sparse = local > np.quantile(local[foreground], 0.9)
    assert weight[foreground & sparse].mean() > weight[foreground & ~sparse].mean()
