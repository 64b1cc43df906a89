"""Signed distance, border weight, heat map, local imbalance, gradient balance: by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalanceseg.errors import InputError
from imbalanceseg.losses import (
    border_weight,
    center_heatmap,
    gradient_balance,
    local_imbalance,
    signed_distance,
)


def naive_signed_distance(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    places = np.indices(mask.shape).reshape(mask.ndim, -1).T * np.array(spacing)
    result = np.zeros(mask.shape, np.float64)
    for index in np.ndindex(mask.shape):
        other = places[mask.ravel() != mask[index]]
        nearest = np.sqrt(((other - np.array(index) * spacing) ** 2).sum(1)).min()
        result[index] = min(spacing) - nearest if mask[index] else nearest
    return result


@given(
    seed=st.integers(0, 10_000),
    spacing=st.tuples(*[st.sampled_from([0.4, 1.0, 2.5])] * 3),
)
@settings(max_examples=20, deadline=None)
def test_signed_distance_is_the_distance_to_the_other_side(seed, spacing):
    mask = np.random.default_rng(seed).random((4, 5, 6)) < 0.3
    mask[0, 0, 0], mask[3, 4, 5] = True, False
    expected = naive_signed_distance(mask, spacing)
    np.testing.assert_allclose(signed_distance(mask, spacing), expected, atol=1e-5)


def test_a_mask_of_whole_numbers_is_the_mask():
    mask = np.zeros((5, 6, 7), bool)
    mask[1:4, 2:5, 2:6] = True
    for kind in (np.uint8, np.int64):
        found = signed_distance(mask.astype(kind), (3.0, 1.0, 0.5))
        np.testing.assert_array_equal(found, signed_distance(mask, (3.0, 1.0, 0.5)))


def test_signed_distance_of_a_thick_slice_is_in_millimetres():
    mask = np.zeros((5, 9, 9), bool)
    mask[2, 4, 4] = True
    distance = signed_distance(mask, (5.0, 0.5, 0.5))
    assert distance[2, 4, 4] == 0
    assert distance[3, 4, 4] == 5
    assert distance[2, 4, 6] == 1


@pytest.mark.parametrize("full", [False, True])
def test_without_a_surface_there_is_no_distance(full):
    assert not signed_distance(np.full((3, 4, 5), full), (1, 1, 1)).any()


def two_squares(gap: int) -> np.ndarray:
    instances = np.zeros((40, 60), np.int32)
    instances[10:30, 10:28] = 1
    instances[10:30, 28 + gap : 50] = 2
    return instances


def test_border_weight_on_the_line_between_two_squares():
    """Four pixels between them: the pixels in the middle are 2 and 3 from the two squares."""
    weight = border_weight(two_squares(4), balance=False)
    expected = 1 + 10 * np.exp(-((2 + 3) ** 2) / 50)
    assert weight[20, 29] == pytest.approx(expected, rel=1e-6)
    assert weight[20].max() == pytest.approx(expected, rel=1e-6)
    assert weight[20, 15] == 1, "no bonus inside an object"
    odd = border_weight(two_squares(3), balance=False)
    assert odd[20, 29] == pytest.approx(1 + 10 * np.exp(-((2 + 2) ** 2) / 50), rel=1e-6)
    assert border_weight(two_squares(4), balance=False, background_only=False)[20, 27] > 5


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_border_weight_does_not_depend_on_the_numbers(seed):
    rng = np.random.default_rng(seed)
    instances = np.kron(rng.integers(0, 5, (5, 6)), np.ones((4, 4), int))
    names = np.append(0, 1 + rng.permutation(8))
    np.testing.assert_array_equal(border_weight(instances), border_weight(names[instances]))


def test_border_weight_in_millimetres_and_its_balance():
    thick = border_weight(two_squares(4), spacing_mm=(1.0, 3.0), balance=False)
    assert thick[20, 29] == pytest.approx(1 + 10 * np.exp(-((6 + 9) ** 2) / 50), rel=1e-6)
    weight = border_weight(two_squares(4), strength=0.0)
    assert weight.mean() == pytest.approx(1, abs=1e-6)
    assert weight[20, 15] * (weight == weight[20, 15]).sum() == pytest.approx(weight.size / 2)


@pytest.mark.parametrize("count", [0, 1])
def test_border_weight_needs_two_instances(count):
    instances = np.zeros((12, 12), int)
    instances[3:6, 3:6] = count
    assert np.all(border_weight(instances, balance=False) == 1)


def test_heatmap_peaks_on_every_centre():
    components = np.zeros((20, 30), int)
    components[4:7, 4:7] = 1
    components[12:16, 20:24] = 7
    heat = center_heatmap(components, 2.0)
    assert heat[5, 5] == 1
    assert heat[5, 7] == pytest.approx(np.exp(-0.5), rel=1e-6)
    np.testing.assert_allclose(heat[13:15, 21:23], np.exp(-0.5 / 8), rtol=1e-6)
    assert not center_heatmap(np.zeros((4, 4), int)).any()


def test_local_imbalance_is_the_share_of_foreground_nearby():
    label = np.zeros((15, 15, 15), np.uint8)
    label[7, 7, 7] = 1
    label[0, 0, 0] = 255
    share = local_imbalance(label)
    assert share[7, 7, 7] == pytest.approx(1 / 343)
    assert share[4, 4, 4] == pytest.approx(1 / 343)
    assert share[3, 7, 7] == pytest.approx(0, abs=1e-7)
    assert share[0, 0, 0] == pytest.approx(0, abs=1e-7)


class TestGradientBalance:
    def test_a_line_of_single_voxels_survives_from_a_ratio_of_eight(self):
        """Three of 27 neighbours are foreground: f R - (1 - f) changes sign at R = 8."""
        label = np.zeros((9, 9, 9), np.uint8)
        label[:, 4, 4] = 1
        inner = np.s_[1:-1, 4, 4]
        assert gradient_balance(label, 7.999).eroded[inner].all()
        assert not gradient_balance(label, 8.0).eroded[inner].any()
        assert not gradient_balance(label, 8.001).eroded[inner].any()
        np.testing.assert_allclose(gradient_balance(label, 8.0).summed[inner], 0)

    def test_a_strong_foreground_spreads_and_a_weak_one_vanishes(self):
        label = np.zeros((17, 17, 17), np.uint8)
        label[5:12, 5:12, 5:12] = 1
        strong, weak = gradient_balance(label, 30.0), gradient_balance(label, 1 / 30)
        assert strong.eroded_share == 0
        assert strong.dilated.sum() == 9**3 - 7**3
        assert weak.dilated_share == 0
        assert weak.eroded.sum() == 7**3 - 5**3

    def test_deeper_layers_erode_a_thin_tube_more(self):
        label = np.zeros((21, 21, 21), np.uint8)
        label[:, 9:12, 9:12] = 1
        shares = [gradient_balance(label, 1.0, layers=n).eroded_share for n in (1, 2, 3)]
        np.testing.assert_allclose(shares, [4 / 9, 4 / 9, 1])

    def test_unlabelled_voxels_send_nothing(self):
        label = np.full((9, 9), 255, np.uint8)
        label[4, 4] = 1
        balance = gradient_balance(label, 0.1)
        assert not balance.eroded.any()
        assert not balance.dilated.any()

    @pytest.mark.parametrize(("ratio", "layers"), [(0, 1), (-1, 1), (np.nan, 1), (1, 0)])
    def test_nonsense_is_refused(self, ratio, layers):
        with pytest.raises(InputError) as caught:
            gradient_balance(np.zeros((3, 3, 3)), ratio, layers)
        assert caught.value.code == "ratio-invalid"
