from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.preprocessing.lung_box import chest_region

TURN = np.deg2rad(15)
OBLIQUE = (np.cos(TURN), 0.0, -np.sin(TURN), 0.0, 1.0, 0.0, np.sin(TURN), 0.0, np.cos(TURN))
UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def box_of(ct: sitk.Image) -> Grid:
    region = chest_region(ct)
    assert region is not None
    return region.box


def body(direction=UPRIGHT, lungs: bool = True, spacing=(3.0, 3.0, 4.0)):
    """A trunk with two lungs and a trachea on a table, in air; and the mask of the air in it.

    480 x 390 x 400 mm; arrays ``[Z, Y, X]``.
    """
    size = tuple(round(length / s) for length, s in zip((480, 390, 400), spacing, strict=True))
    grid = Grid(size, spacing, (10.0, -30.0, 500.0), direction)
    k, j, i = np.indices(size[::-1])
    x, y, z = ((n - (size[a] - 1) / 2) * spacing[a] for a, n in enumerate((i, j, k)))
    hu = np.full(size[::-1], -1000, np.int16)
    hu[(x / 190) ** 2 + (y / 125) ** 2 < 1] = 40
    hu[(np.abs(y - 160) < 6) & (np.abs(x) < 220)] = 200
    inside = np.zeros(hu.shape, bool)
    if lungs:
        for side in (-1, 1):
            inside |= ((x - 75 * side) / 55) ** 2 + (y / 80) ** 2 + ((z + 10) / 110) ** 2 < 1
        hu[inside] = -850
        trachea = (np.hypot(x, y) < 9) & (z > 20) & (z < 150)
        bronchi = (np.hypot(y, z - 25) < 7) & (np.abs(x) < 40)
        hu[trachea | bronchi] = -990
        inside |= trachea | bronchi
    return image_from_array(hu, grid), inside


def margins(box: Grid, grid: Grid, mask: np.ndarray) -> tuple[float, float]:
    """Smallest and largest distance in mm from the mask's voxels to the faces of the box."""
    points = box.physical_to_index(grid.index_to_physical(np.argwhere(mask)[:, ::-1]))
    spacing = np.asarray(box.spacing_mm)
    below = (points.min(0) + 0.5) * spacing
    above = (np.asarray(box.size) - 0.5 - points.max(0)) * spacing
    return float(min(below.min(), above.min())), float(max(below.max(), above.max()))


@pytest.mark.parametrize("direction", [UPRIGHT, OBLIQUE], ids=["upright", "oblique"])
def test_the_box_holds_lungs_and_trachea_with_a_margin(direction):
    ct, inside = body(direction)
    box = box_of(ct)
    smallest, largest = margins(box, Grid.of(ct), inside)
    assert smallest >= 8
    assert largest <= 12 + 40
    assert np.prod(box.size) < 0.4 * np.prod(ct.GetSize())


@pytest.mark.parametrize("order", ["RAS", "PIR", "SLA"])
@pytest.mark.parametrize("direction", [UPRIGHT, OBLIQUE], ids=["upright", "oblique"])
def test_a_flipped_copy_has_the_same_box(order, direction):
    ct, _ = body(direction)
    expected = box_of(ct)
    turned = sitk.DICOMOrient(ct, order)
    assert Grid.of(turned) != Grid.of(ct)
    assert box_of(turned).same_as(expected)


def test_the_box_s_voxels_are_the_scan_s_own():
    ct, _ = body()
    box = box_of(ct)
    corner = Grid.of(ct).physical_to_index(box.origin_mm)
    np.testing.assert_allclose(corner, np.round(corner), atol=1e-6)
    assert box.spacing_mm == pytest.approx(ct.GetSpacing())
    assert (corner >= 0).all()
    assert (np.round(corner) + box.size <= ct.GetSize()).all()


def test_thick_slices_and_fine_pixels_make_the_same_box():
    box = box_of(body()[0])
    other = box_of(body(spacing=(2.0, 2.0, 10.0))[0])
    for corner in (np.zeros(3), np.ones(3)):
        ends = [g.index_to_physical(corner * g.size - 0.5) for g in (box, other)]
        np.testing.assert_allclose(ends[0], ends[1], atol=15)


def test_air_around_the_body_is_no_lung():
    assert chest_region(body(lungs=False)[0]) is None


def test_a_little_gas_is_no_lung():
    ct, _ = body(lungs=False)
    array = sitk.GetArrayFromImage(ct)
    middle = tuple(n // 2 for n in array.shape)
    array[tuple(slice(m - 4, m + 4) for m in middle)] = -1000
    assert 8**3 * 36 / 1000 < 100
    assert chest_region(image_from_array(array, Grid.of(ct))) is None


@pytest.mark.parametrize("value", [-1000, 40])
def test_an_image_of_one_material_has_no_lungs(value):
    array = np.full((20, 30, 30), value, np.int16)
    assert (
        chest_region(image_from_array(array, Grid((30, 30, 20), (3.0,) * 3, (0.0,) * 3, UPRIGHT)))
        is None
    )


def test_lung_behind_a_thin_chest_wall_belongs_to_the_body():
    ct, _ = body()
    grid = Grid.of(ct)
    array = sitk.GetArrayFromImage(ct)
    k, j, i = np.indices(array.shape)
    x, y, z = ((n - (grid.size[a] - 1) / 2) * grid.spacing_mm[a] for a, n in enumerate((i, j, k)))
    within = (x / 182) ** 2 + (y / 117) ** 2 < 1
    lung = within & (np.abs(x) > 20) & (np.abs(x) < 150) & (y < 20) & (np.abs(z) < 40)
    array[lung] = -850
    region = chest_region(image_from_array(array, grid))
    assert region is not None
    found = sitk.GetArrayFromImage(resample(region.body, grid, "nearest")) > 0
    assert found[lung].mean() > 0.99


def test_the_hollow_of_a_table_is_no_body():
    ct, inside = body()
    grid = Grid.of(ct)
    array = sitk.GetArrayFromImage(ct)
    k, j, i = np.indices(array.shape)
    x, y, _ = ((n - (grid.size[a] - 1) / 2) * grid.spacing_mm[a] for a, n in enumerate((i, j, k)))
    # It touches the back; with 8 mm it is thin enough to be told from the trunk.
    array[(np.abs(x) < 220) & (np.abs(y - 155) < 33)] = 200
    hollow = (np.abs(x) < 212) & (np.abs(y - 155) < 25)
    array[hollow] = -950
    region = chest_region(image_from_array(array, grid))
    assert region is not None
    found = sitk.GetArrayFromImage(resample(region.body, grid, "nearest")) > 0
    assert found[hollow].mean() < 0.01
    assert found[inside].mean() > 0.99
    smallest, largest = margins(region.box, grid, inside)
    assert smallest >= 8
    assert largest <= 12 + 40


def test_lungs_cut_off_by_the_scan_stay_in_the_box():
    ct, inside = body()
    part = ct[:, :, 40:80]
    smallest, _ = margins(box_of(part), Grid.of(part), inside[40:80])
    assert smallest >= 0


@pytest.mark.parametrize("seed", [1, 2])
def test_the_box_of_a_phantom_holds_its_airways(seed):
    from imbalanceseg.synthesis.airway import chest_phantom
    from imbalanceseg.synthesis.chest_ct import ChestStyle

    ct, label = chest_phantom(seed, spacing_mm=3.0, scale=0.6, style=ChestStyle())
    airways = sitk.GetArrayFromImage(label) == 1
    smallest, _ = margins(box_of(ct), Grid.of(ct), airways)
    assert smallest >= 0


@pytest.mark.slow
def test_the_box_of_a_covid_scan_holds_the_region_grown_airways(data_folder):
    from imbalanceseg.io import read_image

    ct = read_image(data_folder / "airway_ricord" / "dicom")
    reference = sitk.ReadImage(str(data_folder / "airway_ricord" / "airway_region_grown.nii.gz"))
    box = box_of(ct)
    airways = sitk.GetArrayFromImage(reference) > 0
    smallest, _ = margins(box, Grid.of(reference), airways)
    assert smallest >= 0
    assert np.prod(box.size) < 0.75 * np.prod(ct.GetSize())
