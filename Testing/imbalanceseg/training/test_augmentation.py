"""Geometry moves image and label alike; intensities change as far as is stated."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from imbalanceseg.preprocessing.histogram import match_histogram
from imbalanceseg.training import augmentation as module
from imbalanceseg.training.augmentation import (
    at_low_resolution,
    blurred,
    draw_geometry,
    sampled,
    vary_intensities,
    with_contrast,
    with_gamma,
    with_noise,
    with_quantiles,
)
from imbalanceseg.training.recipe import Augmentation

NOTHING = dict.fromkeys(
    ("rotation", "zoom", "elastic", "noise", "blur", "brightness", "contrast", "low_resolution",
     "gamma", "inverted_gamma", "mirror", "histogram"), 0.0,
)  # fmt: skip
PATCH = (11, 16, 13)


def only(**shares: float) -> Augmentation:
    return Augmentation(**NOTHING | shares)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def distances_mm(offsets: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Of every voxel from the middle, for offsets ``[d, ...]``."""
    return np.sqrt(sum((x * s) ** 2 for x, s in zip(offsets, spacing, strict=True)))


def straight(patch: tuple[int, ...]) -> np.ndarray:
    return np.indices(patch) - (np.array(patch).reshape(-1, *[1] * len(patch)) - 1) / 2


class TestGeometry:
    def test_nothing_drawn_is_nothing_done(self) -> None:
        geometry = draw_geometry(only(), PATCH, (1, 1, 1), False, rng())
        assert geometry.offsets is None
        assert geometry.flipped == ()

    def test_each_axis_is_mirrored_half_of_the_time(self) -> None:
        draw = rng()
        drawn = [draw_geometry(only(mirror=1), PATCH, (1, 1, 1), False, draw) for _ in range(600)]
        for axis in range(3):
            assert abs(np.mean([axis in one.flipped for one in drawn]) - 0.5) < 0.09
        assert abs(np.mean([not one.flipped for one in drawn]) - 1 / 8) < 0.06

    @pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 1.0, 0.7)])
    def test_rotation_keeps_distances_in_mm(self, spacing: tuple[float, ...]) -> None:
        geometry = draw_geometry(only(rotation=1), PATCH, spacing, False, rng())
        assert geometry.offsets is not None
        found = geometry.offsets.numpy()
        assert abs(found - straight(PATCH)).max() > 0.5
        np.testing.assert_allclose(
            distances_mm(found, spacing), distances_mm(straight(PATCH), spacing), atol=1e-4
        )

    def test_the_angle_about_each_axis_is_kept_small(self) -> None:
        """Three rotations by at most 5 degrees turn by at most 15 together."""
        draw = rng()
        for _ in range(50):
            geometry = draw_geometry(
                only(rotation=1).model_copy(update={"rotation_degrees": 5.0}),
                PATCH, (1, 1, 1), False, draw,
            )  # fmt: skip
            assert geometry.offsets is not None
            along = (geometry.offsets[:, 1:] - geometry.offsets[:, :-1])[:, 0, 0, 0].numpy()
            assert np.degrees(np.arccos(min(1, along[0]))) <= 15 + 1e-2

    def test_in_the_plane_any_angle_is_taken(self) -> None:
        draw = rng()
        angles = []
        for _ in range(200):
            geometry = draw_geometry(only(rotation=1), PATCH, (5, 1, 1), True, draw)
            assert geometry.offsets is not None
            assert geometry.offsets.shape == (2, *PATCH[1:])
            step = geometry.offsets[:, 1, 0] - geometry.offsets[:, 0, 0]
            angles.append(np.degrees(np.arctan2(float(step[1]), float(step[0]))))
        assert np.min(angles) < -150
        assert np.max(angles) > 150
        assert abs(np.mean(np.abs(angles)) - 90) < 12

    def test_a_recipe_may_hold_the_angle_in_the_plane_too(self) -> None:
        draw, augmentation = rng(), only(rotation=1).model_copy(update={"rotation_degrees": 14.0})
        angles = []
        for _ in range(100):
            geometry = draw_geometry(augmentation, PATCH, (5, 1, 1), True, draw)
            assert geometry.offsets is not None
            step = geometry.offsets[:, 1, 0] - geometry.offsets[:, 0, 0]
            angles.append(abs(np.degrees(np.arctan2(float(step[1]), float(step[0])))))
        assert 12 < max(angles) < 14.01

    def test_zoom_stays_in_its_range_and_shrinks_as_often_as_it_enlarges(self) -> None:
        draw = rng()
        factors = []
        for _ in range(400):
            geometry = draw_geometry(only(zoom=1), PATCH, (3, 1, 1), False, draw)
            assert geometry.offsets is not None
            factor = PATCH[0] // 2 / float(geometry.offsets[0, -1, 0, 0])
            np.testing.assert_allclose(
                geometry.offsets.numpy() * factor, straight(PATCH), atol=1e-4
            )
            factors.append(factor)
        assert 0.7 <= min(factors) < 0.75
        assert 1.33 < max(factors) <= 1.4
        assert abs(np.mean(np.array(factors) > np.sqrt(0.7 * 1.4)) - 0.5) < 0.1

    @pytest.mark.parametrize(
        ("patch", "spacing", "anisotropic"),
        [((24, 30), (1.0, 2.0), False), ((8, 20, 24), (2.0, 1.0, 1.0), False),
         ((6, 20, 24), (5.0, 1.0, 0.5), True)],
    )  # fmt: skip
    def test_bending_has_the_deviation_that_is_asked_for_everywhere(
        self, patch: tuple[int, ...], spacing: tuple[float, ...], anisotropic: bool
    ) -> None:
        draw = rng()
        bent = only(elastic=1).model_copy(update={"elastic_mm": 3.0, "elastic_grid_mm": 9.0})
        moved = 2 if len(patch) == 2 or anisotropic else 3
        fields = []
        for _ in range(500):
            offsets = draw_geometry(bent, patch, spacing, anisotropic, draw).offsets
            assert offsets is not None
            assert offsets.shape == (moved, *patch)
            shift = offsets.numpy() - straight(patch)[-moved:]
            fields.append(shift * np.reshape(spacing[-moved:], (-1, *[1] * len(patch))))
        deviation = np.std(fields, axis=0)
        assert deviation.mean() == pytest.approx(3.0, rel=0.03)
        assert deviation.min() > 3.0 * 0.85
        assert deviation.max() < 3.0 * 1.15
        # Smooth: voxels of 1 mm move alike with control points 9 mm apart.
        steps = np.diff(np.array(fields), axis=-2)
        assert steps.std() < 3.0 * 0.25 * spacing[-2]


def ball(shape: tuple[int, ...]) -> torch.Tensor:
    where = straight(shape)
    return torch.from_numpy((np.sqrt((where**2).sum(0)) < min(shape) * 0.4).astype(np.uint8))


class TestSampling:
    def test_the_same_voxels_are_the_same_patch(self) -> None:
        image = torch.from_numpy(rng().normal(size=(1, 2, *PATCH)).astype(np.float32))
        label = torch.from_numpy(rng().integers(0, 9, (1, *PATCH)).astype(np.uint8))
        voxels = torch.from_numpy(np.indices(PATCH).astype(np.float32))[:, None]
        found = sampled(image, label, label.int(), voxels)
        torch.testing.assert_close(found[0], image, atol=1e-5, rtol=1e-5)
        assert torch.equal(found[1], label)
        assert torch.equal(found[2], label.int())

    def test_beyond_the_window_nothing_is_labelled(self) -> None:
        image = torch.from_numpy(rng().normal(size=(1, 1, *PATCH)).astype(np.float32))
        label = torch.ones(1, *PATCH, dtype=torch.uint8)
        voxels = torch.from_numpy(np.indices(PATCH).astype(np.float32))[:, None]
        voxels[1] -= 4
        found = sampled(image, label, 70_000_001 * label.int(), voxels)
        torch.testing.assert_close(found[0][..., 4:, :], image[..., :-4, :], atol=1e-4, rtol=1e-4)
        border = image[..., :1, :].expand(-1, -1, -1, 4, -1)
        torch.testing.assert_close(found[0][..., :4, :], border, atol=1e-4, rtol=1e-4)
        assert (found[1][..., :4, :] == 255).all()
        assert (found[1][..., 4:, :] == 1).all()
        assert (found[2][..., :4, :] == 0).all()
        # More than a float32 holds.
        assert (found[2][..., 4:, :] == 70_000_001).all()

    @given(seed=st.integers(0, 10_000), in_plane=st.booleans())
    @settings(max_examples=40, deadline=None)
    def test_label_and_image_move_alike(self, seed: int, in_plane: bool) -> None:
        shape = (20, 24, 22)
        label = ball(shape)
        image = label.float()
        everything = only(rotation=0.8, zoom=0.8, elastic=0.8)
        spacing = (4.0, 1.0, 1.0) if in_plane else (1.5, 1.0, 1.0)
        offsets = draw_geometry(everything, shape, spacing, in_plane, rng(seed)).offsets
        if offsets is None:
            return
        moved = len(offsets)
        middle = (torch.tensor(shape[-moved:]) - 1) / 2
        voxels = offsets + middle.view(-1, *[1] * (offsets.ndim - 1))
        voxels = voxels.reshape(moved, -1, *shape[-moved:])
        if in_plane:
            new_image, new_label, numbers = sampled(image[:, None], label, label.int(), voxels)
            new_image = new_image[:, 0]
        else:
            new_image, new_label, numbers = sampled(
                image[None, None], label[None], label[None].int(), voxels
            )
            new_image = new_image[0]
        known = new_label != 255
        assert set(new_label.unique().tolist()) <= {0, 1, 255}
        assert torch.equal(numbers[known], new_label[known].int())
        # The nearest voxel has at least an eighth of the weight.
        assert (new_label[known & (new_image < 1e-3)] == 0).all()
        assert (new_label[known & (new_image > 1 - 1e-3)] == 1).all()
        differs = (new_image > 0.5) != (new_label == 1)
        assert differs[known].float().mean() < 0.05


class TestIntensities:
    image = torch.from_numpy(rng(5).normal(size=(3, 12, 20, 18)).astype(np.float32))
    axes = (-3, -2, -1)

    def test_nothing_drawn_is_nothing_done(self) -> None:
        assert torch.equal(vary_intensities(self.image, only(), False, rng()), self.image)

    @pytest.mark.parametrize("name", ["noise", "blur", "brightness", "contrast", "low_resolution",
                                      "gamma", "inverted_gamma"])  # fmt: skip
    def test_each_changes_as_many_patches_as_it_should(self, name: str) -> None:
        draw = rng()
        before = self.image.clone()
        changed = [
            not torch.equal(vary_intensities(self.image, only(**{name: 0.3}), False, draw), before)
            for _ in range(300)
        ]
        assert abs(np.mean(changed) - 0.3) < 0.11
        assert torch.equal(self.image, before)

    def test_everything_at_once_stays_finite_even_where_nothing_is(self) -> None:
        everything = Augmentation(**dict.fromkeys(NOTHING, 1.0))
        for image in (self.image, torch.zeros(1, 4, 5, 6), torch.full((1, 7, 1), 3.0)):
            changed = vary_intensities(image, everything, image.ndim == 3, rng())
            assert changed.shape == image.shape
            assert changed.dtype == torch.float32
            assert changed.isfinite().all()

    def test_brightness_multiplies(self) -> None:
        draw = rng()
        for _ in range(30):
            changed = vary_intensities(self.image, only(brightness=1), False, draw)
            factors = (changed / self.image).flatten(1)
            assert (factors.amax(1) - factors.amin(1)).max() < 1e-3
            assert 0.75 <= factors.median() <= 1.25
            assert not torch.isclose(factors[0, 0], factors[1, 0])

    def test_noise_has_its_deviation_and_no_mean(self) -> None:
        noise = with_noise(self.image, 0.3, rng()) - self.image
        assert float(noise.std()) == pytest.approx(0.3, rel=0.03)
        assert abs(float(noise.mean())) < 0.01

    @pytest.mark.parametrize("sigma", [0.5, 0.8, 1.0])
    def test_blur_is_scipys(self, sigma: float) -> None:
        expected = ndimage.gaussian_filter(
            self.image[0].numpy(), sigma, mode="nearest", radius=module._BLUR_REACH
        )
        found = blurred(self.image[0], sigma, self.axes)
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_contrast_keeps_mean_and_range(self) -> None:
        channel = self.image[0]
        less, more = with_contrast(channel, 0.75), with_contrast(channel, 1.25)
        torch.testing.assert_close(less.std(), channel.std() * 0.75)
        torch.testing.assert_close(less.mean(), channel.mean())
        assert more.min() == channel.min()
        assert more.max() == channel.max()
        assert float(more.std()) == pytest.approx(1.25 * float(channel.std()), rel=0.02)

    def test_low_resolution_loses_what_is_fine_and_keeps_what_is_coarse(self) -> None:
        channel = self.image[0]
        torch.testing.assert_close(at_low_resolution(channel, 1.0, self.axes), channel)
        assert at_low_resolution(channel, 0.5, self.axes).std() < 0.8 * channel.std()
        ramp = torch.arange(40.0).expand(4, 6, 40)
        found = at_low_resolution(ramp, 0.5, self.axes)
        assert (found - ramp)[..., 3:-3].abs().max() <= 1.0

    def test_slices_are_not_mixed_where_they_are_thick(self) -> None:
        image = torch.arange(12.0).view(1, 12, 1, 1).expand(1, 12, 20, 18).contiguous()
        soft = only(blur=1, low_resolution=1)
        assert torch.allclose(vary_intensities(image, soft, True, rng()), image, atol=1e-4)
        assert not torch.allclose(vary_intensities(image, soft, False, rng()), image, atol=0.1)

    @pytest.mark.parametrize("exponent", [0.7, 1.0, 1.5])
    def test_gamma_keeps_mean_deviation_and_order(self, exponent: float) -> None:
        channel = self.image[0]
        found = with_gamma(channel, exponent)
        assert float(found.mean()) == pytest.approx(float(channel.mean()), abs=1e-5)
        torch.testing.assert_close(found.std(), channel.std())
        order = channel.flatten().argsort()
        assert (found.flatten()[order].diff() >= -1e-6).all()
        if exponent == 1:
            torch.testing.assert_close(found, channel)
        else:
            # Dark values are drawn apart below 1, bright ones above it.
            spread = found.flatten()[order]
            ratio = (spread[100] - spread[0]) / (spread[-1] - spread[-100])
            plain = channel.flatten()[order]
            before = (plain[100] - plain[0]) / (plain[-1] - plain[-100])
            assert (ratio > before) == (exponent < 1)


class TestHistogram:
    quantiles = np.linspace(0, 1, 12)

    def test_a_case_matched_to_itself_is_itself(self) -> None:
        values = rng().gamma(2, 1, (9, 10, 11)).astype(np.float32)
        own = np.quantile(values, self.quantiles).astype(np.float32)
        np.testing.assert_allclose(
            with_quantiles(torch.from_numpy(values), own, own), values, atol=1e-5
        )

    def test_a_whole_case_is_matched_as_simpleitk_does(self) -> None:
        one = rng(1).gamma(2, 1, (20, 20, 20)).astype(np.float32)
        two = rng(2).normal(4, 2, (15, 20, 20)).astype(np.float32)
        own, other = (np.quantile(x, self.quantiles).astype(np.float32) for x in (one, two))
        found = with_quantiles(torch.from_numpy(one), own, other).numpy()
        images = [sitk.GetImageFromArray(x) for x in (one, two)]
        expected = sitk.GetArrayFromImage(match_histogram(images[0], images[1]))
        np.testing.assert_allclose(found, expected, atol=0.1)
        np.testing.assert_allclose(np.quantile(found, self.quantiles), other, atol=0.05)

    def test_what_was_blanked_out_stays_so(self) -> None:
        values = rng().normal(0, 1, (9, 10, 11)).astype(np.float32)
        values[:5] = 0
        own, other = np.linspace(-2, 2, 12, dtype=np.float32), np.linspace(1, 9, 12)
        found = with_quantiles(torch.from_numpy(values), own, other.astype(np.float32)).numpy()
        assert not found[:5].any()
        np.testing.assert_allclose(
            found[5:], 5 + 2 * np.clip(values[5:], -2, 2) + (values - np.clip(values, -2, 2))[5:],
            atol=1e-4,
        )  # fmt: skip
