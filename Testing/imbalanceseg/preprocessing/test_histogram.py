"""Matched histograms have the quantiles of the other image, and keep the order of voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid
from imbalanceseg.io import read_image
from imbalanceseg.preprocessing.histogram import match_histogram


def random_image(seed: int, kind: str) -> sitk.Image:
    rng = np.random.default_rng(seed)
    values = {
        "gamma": rng.gamma(2.0, 60.0, (20, 24, 28)),
        "two humps": np.where(
            rng.random((18, 20, 22)) < 0.4,
            rng.normal(200, 20, (18, 20, 22)),
            rng.normal(700, 60, (18, 20, 22)),
        ),
    }[kind]
    image = sitk.GetImageFromArray(values.astype(np.float32))
    image.SetSpacing((0.5, 0.5, 3.0))
    image.SetOrigin((4, 5, -6))
    return image


@pytest.mark.parametrize("points", [4, 9, 19])
@pytest.mark.parametrize("kinds", [("gamma", "two humps"), ("two humps", "gamma")])
def test_quantiles_are_those_of_the_other_image(kinds: tuple[str, str], points: int) -> None:
    image, other = (random_image(n, kind) for n, kind in enumerate(kinds))
    matched = sitk.GetArrayFromImage(match_histogram(image, other, points))
    wanted = sitk.GetArrayViewFromImage(other)
    at = np.linspace(0, 1, points + 2)
    spread = float(np.ptp(wanted))
    # One level of the histogram on either side, and what lies between two voxels in rank.
    np.testing.assert_allclose(
        np.quantile(matched, at), np.quantile(wanted, at), atol=4 * spread / 1024
    )


def test_an_image_matched_with_itself_stays_as_it_is() -> None:
    image = random_image(3, "two humps")
    values = sitk.GetArrayViewFromImage(image)
    matched = sitk.GetArrayFromImage(match_histogram(image, image))
    np.testing.assert_allclose(matched, values, atol=float(np.ptp(values)) / 512)


def test_order_and_place_are_kept() -> None:
    image, other = random_image(1, "gamma"), random_image(2, "two humps")
    matched = match_histogram(image, other)
    assert Grid.of(matched).same_as(Grid.of(image))
    order = np.argsort(sitk.GetArrayViewFromImage(image), axis=None)
    assert np.all(np.diff(sitk.GetArrayViewFromImage(matched).ravel()[order]) >= 0)


def test_real_scans_of_two_patients(data_folder: Path) -> None:
    first, second = sorted((data_folder / "hippocampus" / "train" / "images").glob("*.nii*"))[:2]
    image, other = read_image(first), read_image(second)
    matched = sitk.GetArrayFromImage(match_histogram(image, other))
    wanted = sitk.GetArrayViewFromImage(other)
    at = np.linspace(0, 1, 12)
    np.testing.assert_allclose(
        np.quantile(matched, at), np.quantile(wanted, at), atol=float(np.ptp(wanted)) / 100
    )


@pytest.mark.parametrize("points", [0, -1, 257])
def test_unusable_match_points_are_refused(points: int) -> None:
    image = random_image(0, "gamma")
    with pytest.raises(InputError, match="match points"):
        match_histogram(image, image, points)
