from __future__ import annotations

import cc3d
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import binary_dilation

from imbalanceseg.errors import GeometryError, InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.synthesis.lesions import (
    LARGEST_MM3,
    LOG_COUNT,
    draw_lesion_volumes,
    implant_lesions,
    lesion_phantom,
)

DIAL = (0.0, 0.25, 0.5, 0.75, 1.0)
QUANTILES = (10, 25, 50, 75, 90, 95, 99)
REAL_MM3 = (2, 6, 17, 46, 122, 253, 2134)
"""Of the 29 masks of ms_lesions_mni."""


def voxels(image):
    return sitk.GetArrayFromImage(image)


def volumes_of(mask, voxel_mm3=1.0):
    components = cc3d.connected_components((mask > 0).astype(np.uint8), connectivity=26)
    return np.bincount(components.ravel())[1:] * voxel_mm3


def share_of_largest(volumes, percent):
    ordered = np.sort(volumes)[::-1]
    return ordered[: max(1, len(ordered) * percent // 100)].sum() / ordered.sum()


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    return [draw_lesion_volumes(rng) for _ in range(400)]


class TestSizes:
    def test_quantiles_are_those_of_real_lesions(self, drawn):
        found = np.percentile(np.concatenate(drawn), QUANTILES)
        ratios = found / np.asarray(REAL_MM3)
        assert ((ratios > 0.75) & (ratios < 1.35)).all(), found

    def test_the_tail_is_heavier_than_that_of_one_log_normal(self, drawn):
        volumes = np.concatenate(drawn)
        logs = np.log(volumes)
        assert np.percentile(logs, 99) > logs.mean() + 2.6 * logs.std()
        assert 0.5 < share_of_largest(volumes, 1) < 0.8
        assert volumes.max() <= LARGEST_MM3

    def test_numbers_are_those_of_real_patients(self, drawn):
        logs = np.log([len(v) for v in drawn])
        assert logs.mean() == pytest.approx(LOG_COUNT[0], abs=0.15)
        assert logs.std() == pytest.approx(LOG_COUNT[1], abs=0.15)

    def test_the_largest_come_first(self, drawn):
        for volumes in drawn[:20]:
            assert (np.diff(volumes) <= 0).all()
        assert len(draw_lesion_volumes(np.random.default_rng(1), 7)) == 7

    @pytest.mark.slow
    def test_sizes_agree_with_the_real_masks(self, data_folder, drawn):
        files = sorted((data_folder / "ms_lesions_mni").glob("*_lesions.nii.gz"))
        if not files:
            pytest.skip("ms_lesions_mni is not in the folder of real scans.")
        real = [volumes_of(voxels(sitk.ReadImage(str(f)))) for f in files]
        expected = np.percentile(np.concatenate(real), QUANTILES)
        np.testing.assert_allclose(expected, REAL_MM3, rtol=0.02)
        ratios = np.percentile(np.concatenate(drawn), QUANTILES) / expected
        assert ((ratios > 0.75) & (ratios < 1.35)).all(), ratios
        numbers = np.log([len(v) for v in real])
        assert numbers.mean() == pytest.approx(LOG_COUNT[0], abs=0.001)
        assert numbers.std(ddof=1) == pytest.approx(LOG_COUNT[1], abs=0.001)


class TestPhantom:
    def test_it_follows_its_seed_and_lies_on_one_grid(self):
        first, again, other = (lesion_phantom(s, 2.5) for s in (1, 1, 2))
        for a, b in zip(first, again, strict=True):
            assert Grid.of(a) == Grid.of(b) == Grid.of(first[0])
            np.testing.assert_array_equal(voxels(a), voxels(b))
        image, label = first
        assert (image.GetPixelID(), label.GetPixelID()) == (sitk.sitkFloat32, sitk.sitkUInt8)
        assert image.GetSpacing() == (2.5, 2.5, 2.5)
        assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
        assert set(np.unique(voxels(label))) == {0, 1}
        assert (voxels(other[0]) != voxels(image)).mean() > 0.3

    def test_as_many_lesions_as_asked_for_none_touching(self):
        _, label = lesion_phantom(3, 2.0, count=25)
        assert len(volumes_of(voxels(label))) == 25

    def test_lesions_lie_in_the_brain_and_mostly_near_the_ventricles(self):
        image, label = lesion_phantom(4, 2.0, difficulty=0.0, count=60)
        mask = voxels(label) == 1
        assert (voxels(image)[mask] > 0).all(), "nothing outside the brain"
        assert voxels(image)[mask].mean() > 1.2 * np.median(voxels(image)[voxels(image) > 20])

    def test_contrast_to_noise_falls_with_the_difficulty(self):
        ratios, labels = [], []
        for difficulty in DIAL:
            image, label = lesion_phantom(5, 2.0, difficulty=difficulty, brain_only=False)
            values, mask = voxels(image), voxels(label) == 1
            noise = np.sqrt((values[-10:, :4, :4] ** 2).mean() / 2)
            around = binary_dilation(mask, iterations=3) & ~binary_dilation(mask, iterations=1)
            ratios.append((np.median(values[mask]) - np.median(values[around])) / noise)
            labels.append(mask)
        assert ratios == sorted(ratios, reverse=True), ratios
        assert ratios[0] > 15
        assert ratios[-1] < 4
        assert all(np.array_equal(labels[0], other) for other in labels)

    def test_the_skull_is_there_when_asked_for(self):
        bare, whole = (voxels(lesion_phantom(1, 2.5, brain_only=b)[0]) for b in (True, False))
        np.testing.assert_array_equal(bare[bare > 0], whole[bare > 0])
        assert (bare == 0).mean() > 0.4
        assert (whole == 0).mean() < 0.01

    def test_a_shape_is_the_shape_of_the_array(self):
        image, label = lesion_phantom(1, 3.0, shape=(30, 50, 40), count=5)
        assert voxels(image).shape == voxels(label).shape == (30, 50, 40)

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            ({"difficulty": -0.1}, "difficulty-out-of-range"),
            ({"difficulty": float("inf")}, "difficulty-out-of-range"),
            ({"spacing_mm": 0.0}, "spacing-invalid"),
            ({"shape": (2, 2, 2)}, "shape-too-small"),
            ({"count": 0}, "count-invalid"),
        ],
    )
    def test_wrong_input_is_named(self, arguments, code):
        with pytest.raises(InputError) as refused:
            lesion_phantom(0, **arguments)
        assert refused.value.code == code


GRID = Grid((40, 36, 20), (1.0, 1.0, 2.0), (-20.0, 5.0, 7.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))


def image_of(array, grid=GRID):
    return image_from_array(array, grid)


@pytest.fixture
def scene():
    """Tissue of about 100 with CSF of 20 on the left, a host in the middle and two lesions."""
    rng = np.random.default_rng(0)
    values = rng.normal(100, 3, (20, 36, 40)).astype(np.float32)
    values[:, :, :10] = 20
    host = np.zeros(values.shape, np.uint8)
    host[2:18, 4:32, 4:36] = 1
    lesions = np.zeros(values.shape, np.uint8)
    lesions[8:12, 14:20, 20:27] = 1
    lesions[5, 8, 14] = 1
    lesions[14, 20, 3:14] = 1
    return image_of(values), image_of(host), image_of(lesions)


class TestImplant:
    @pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
    def test_only_lesions_and_their_soft_border_change(self, scene, difficulty):
        made, label = implant_lesions(*scene, seed=1, difficulty=difficulty)
        assert Grid.of(made) == Grid.of(label) == GRID
        change = voxels(made) - voxels(scene[0])
        mask = voxels(label) == 1
        # 2.5 standard deviations of at most 0.9 mm.
        border = binary_dilation(mask, np.ones((5, 7, 7)))
        np.testing.assert_array_equal(change[~border], 0)
        np.testing.assert_array_equal(change[voxels(scene[1]) == 0], 0)
        assert (change[mask] > 0).all()

    def test_the_label_is_what_lies_in_the_tissue_of_the_host(self, scene):
        _, label = implant_lesions(*scene, seed=1)
        expected = voxels(scene[2]).copy()
        expected[:, :, :10] = 0
        np.testing.assert_array_equal(voxels(label), expected)
        assert label.GetPixelID() == sitk.sitkUInt8

    def test_it_follows_its_seed(self, scene):
        first, again, other = (voxels(implant_lesions(*scene, seed=s)[0]) for s in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_lesions_rise_less_the_harder_they_are(self, scene):
        rises = []
        for difficulty in DIAL:
            made, label = implant_lesions(*scene, seed=3, difficulty=difficulty)
            change = voxels(made) - voxels(scene[0])
            rises.append(float(change[voxels(label) == 1].mean()))
        assert rises == sorted(rises, reverse=True)
        assert rises[0] > 40
        assert 3 < rises[-1] < 20

    def test_the_pixel_type_stays(self, scene):
        whole = sitk.Cast(scene[0], sitk.sitkInt16)
        made, label = implant_lesions(whole, *scene[1:], seed=1, contrast="T2")
        assert made.GetPixelID() == sitk.sitkInt16
        assert (voxels(made)[voxels(label) == 1] > voxels(whole)[voxels(label) == 1]).all()

    def test_lesions_of_a_phantom_fit_into_another(self):
        host, old = lesion_phantom(1, 2.5, count=5)
        _, lesions = lesion_phantom(2, 2.5, count=30)
        brain = image_of(((voxels(host) > 0) & (voxels(old) == 0)).astype(np.uint8), Grid.of(host))
        made, label = implant_lesions(host, brain, lesions, seed=1)
        assert not (voxels(label) & voxels(old)).any()
        assert voxels(label).sum() > 0.5 * voxels(lesions).sum()
        assert voxels(made).max() >= voxels(host).max()

    @pytest.mark.parametrize("moved", ["host", "lesions"])
    def test_another_grid_is_refused(self, scene, moved):
        image, host, lesions = scene
        other = sitk.Image(host if moved == "host" else lesions)
        other.SetOrigin((0, 0, 0))
        pair = (other, lesions) if moved == "host" else (host, other)
        with pytest.raises(GeometryError, match="same grid") as refused:
            implant_lesions(image, *pair, seed=0)
        assert refused.value.code == "grid-mismatch"

    def test_wrong_input_is_named(self, scene):
        image, host, lesions = scene
        nothing = image_of(np.zeros((20, 36, 40), np.uint8))
        for arguments, code in (
            ((image, nothing, lesions, 0), "host-empty"),
            ((image, host, nothing, 0), "no-lesion-in-host"),
            ((image, host, lesions, 0, "T1c"), "contrast-unknown"),
            ((image, host, lesions, 0, "FLAIR", 2.0), "difficulty-out-of-range"),
        ):
            with pytest.raises(InputError) as refused:
                implant_lesions(*arguments)
            assert refused.value.code == code
