from __future__ import annotations

import cc3d
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import binary_dilation

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid
from imbalanceseg.synthesis.tumor import KINDS, TUMOR_CONTRASTS, tumor_phantom

COARSE = (2.4, 2.4, 4.8)
DIAL = (0.0, 0.25, 0.5, 0.75, 1.0)


def voxels(image):
    return sitk.GetArrayFromImage(image)


def noise_of(image):
    """Standard deviation of each channel, from the air in a corner above the head."""
    return float(np.sqrt((image[-6:, :4, :4] ** 2).mean() / 2))


def contrast_to_noise(image, label):
    """Tumour against what surrounds it, in units of the noise."""
    around = binary_dilation(label, iterations=3) & ~binary_dilation(label, iterations=1)
    return abs(np.median(image[label]) - np.median(image[around])) / noise_of(image)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("contrast", TUMOR_CONTRASTS)
def test_a_phantom_follows_its_seed_and_lies_on_one_grid(kind, contrast):
    first = tumor_phantom(3, kind, contrast, COARSE)
    again = tumor_phantom(3, kind, contrast, COARSE)
    for a, b in zip(first, again, strict=True):
        assert Grid.of(a) == Grid.of(b) == Grid.of(first[0])
        np.testing.assert_array_equal(voxels(a), voxels(b))
    image, label = first
    assert (image.GetPixelID(), label.GetPixelID()) == (sitk.sitkFloat32, sitk.sitkUInt8)
    assert image.GetSpacing() == COARSE
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert image.GetSize() == (69, 85, 28)
    assert np.isfinite(voxels(image)).all()
    other = tumor_phantom(4, kind, contrast, COARSE)
    assert (voxels(other[0]) != voxels(image)).mean() > 0.5


@pytest.mark.parametrize("kind", ["schwannoma", "glioma"])
@pytest.mark.parametrize("seed", range(4))
def test_the_label_is_one_tumour_of_a_real_size(kind, seed):
    _, label = tumor_phantom(seed, kind, spacing_mm=COARSE)
    mask = voxels(label)
    assert set(np.unique(mask)) == {0, 1}
    assert cc3d.connected_components(mask, connectivity=26).max() == 1
    sizes = [np.ptp(w) + 1 for w in np.nonzero(mask)]
    longest = max(n * s for n, s in zip(sizes, COARSE[::-1], strict=True))
    low, high = (4, 36) if kind == "schwannoma" else (14, 90)
    assert low <= longest <= high


def test_metastases_are_one_to_four_bodies_and_all_are_labelled():
    counts = set()
    for seed in range(6):
        _, label = tumor_phantom(seed, "metastasis", spacing_mm=(1.6, 1.6, 3.2))
        bodies = cc3d.connected_components(voxels(label), connectivity=26)
        counts.add(int(bodies.max()))
        for box in cc3d.statistics(bodies)["bounding_boxes"][1:]:
            sizes = [(b.stop - b.start) * s for b, s in zip(box, (3.2, 1.6, 1.6), strict=True)]
            assert max(sizes) < 42
    assert counts <= {1, 2, 3, 4}
    assert len(counts) > 1


def test_flair_shows_csf_dark_and_oedema_bright():
    flair, label = tumor_phantom(3, "glioma", "FLAIR", COARSE, difficulty=0.0)
    t2, _ = tumor_phantom(3, "glioma", "T2", COARSE, difficulty=0.0)
    flair, t2, mask = voxels(flair), voxels(t2), voxels(label) == 1
    near = binary_dilation(mask, iterations=2) & ~mask
    assert np.median(flair[near]) > 1.2 * np.median(flair[t2 > 0.25 * t2.max()])
    eyes = t2 > 0.9 * np.percentile(t2, 99.9)
    assert np.median(flair[eyes & ~mask]) < 0.5 * np.median(flair[near])


def test_a_schwannoma_lies_beside_the_brainstem():
    sides = set()
    for seed in range(6):
        _, label = tumor_phantom(seed, "schwannoma", spacing_mm=COARSE)
        where = np.argwhere(voxels(label) == 1)[:, ::-1]
        x, y, z = Grid.of(label).index_to_physical(where).mean(axis=0)
        assert 8 < abs(x) < 32
        assert 12 < y < 36
        assert -45 < z < -20
        sides.add(np.sign(x))
    assert sides == {-1.0, 1.0}


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_one_patient_in_every_contrast_and_difficulty(kind):
    labels = [
        voxels(tumor_phantom(5, kind, contrast, COARSE, difficulty=d)[1])
        for contrast, d in (("T1c", 0.0), ("T1c", 1.0), ("T2", 0.5))
    ]
    for label in labels[1:]:
        np.testing.assert_array_equal(label, labels[0])


@pytest.mark.parametrize(
    ("kind", "contrast"), [("schwannoma", "T1c"), ("schwannoma", "T2"), ("glioma", "T1c")]
)
def test_contrast_to_noise_falls_with_the_difficulty(kind, contrast):
    ratios = []
    for difficulty in DIAL:
        image, label = tumor_phantom(3, kind, contrast, COARSE, difficulty=difficulty)
        ratios.append(contrast_to_noise(voxels(image), voxels(label) == 1))
    assert ratios == sorted(ratios, reverse=True), ratios
    assert ratios[0] > 12
    assert ratios[-1] < 5


def test_a_glioma_in_t2_fades_as_well():
    """Its oedema is as bright as its rim, so it is held against the whole brain here."""

    def stands_out(difficulty):
        image, label = (
            voxels(i) for i in tumor_phantom(3, "glioma", "T2", COARSE, None, difficulty)
        )
        inside = image[label == 1]
        return (inside.mean() - np.median(image[image > 0.4 * inside.mean()])) / noise_of(image)

    ratios = [stands_out(d) for d in DIAL]
    assert ratios == sorted(ratios, reverse=True), ratios


def test_thick_slices_keep_the_volume_of_the_tumour():
    volumes = []
    for thickness in (1.5, 3.0, 6.0):
        _, label = tumor_phantom(2, "glioma", spacing_mm=(2.0, 2.0, thickness))
        volumes.append(float(voxels(label).sum()) * 4 * thickness)
    assert max(volumes) < 1.25 * min(volumes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_smaller_grid_lies_around_the_tumour(kind):
    image, label = tumor_phantom(1, kind, spacing_mm=(2.0, 2.0, 5.0), shape=(12, 90, 80))
    assert image.GetSize() == (80, 90, 12)
    assert voxels(label).any()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"kind": "meningioma"}, "kind-unknown"),
        ({"contrast": "PD"}, "contrast-unknown"),
        ({"difficulty": 1.5}, "difficulty-out-of-range"),
        ({"difficulty": float("nan")}, "difficulty-out-of-range"),
        ({"spacing_mm": (1.0, 1.0, -3.0)}, "spacing-invalid"),
        ({"shape": (4, 90, 80)}, "shape-too-small"),
        ({"shape": (8, 8, 8), "spacing_mm": (0.8, 0.8, 0.8)}, "shape-too-small"),
    ],
)
def test_wrong_input_is_named(arguments, code):
    with pytest.raises(InputError) as refused:
        tumor_phantom(0, **arguments)
    assert refused.value.code == code
    assert refused.value.hint
