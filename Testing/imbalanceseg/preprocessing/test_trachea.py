"""The tracheal column: found in phantoms and a real scan, absent where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.preprocessing import trachea
from imbalanceseg.preprocessing.trachea import tracheal_column

GRID = Grid((60, 60, 60), (1.5,) * 3, (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))


def scan(radius_mm: float) -> sitk.Image:
    """A block of soft tissue with a vertical tube of air in it, and air around it."""
    x, y = np.meshgrid(np.arange(60), np.arange(60))
    hu = np.full((60, 60, 60), -1000, np.int16)
    hu[:, 4:56, 4:56] = 40
    hu[:, np.hypot(x - 30, y - 24) * 1.5 < radius_mm] = -950
    return image_from_array(hu, GRID)


def test_the_column_is_the_tube_and_nothing_else():
    ct = scan(8.0)
    column = tracheal_column(ct)
    assert column is not None
    inside = sitk.GetArrayFromImage(column) > 0
    tube = sitk.GetArrayFromImage(ct) == -950
    assert not (inside & ~tube).any()
    assert (inside.sum(axis=(1, 2))[21:] == tube.sum(axis=(1, 2))[21:]).all()


@pytest.mark.parametrize("order", ["RAI", "LPI", "SPL"])
def test_the_column_is_the_same_in_every_storage_order(order):
    ct = scan(8.0)
    turned = tracheal_column(sitk.DICOMOrient(ct, order))
    assert turned is not None
    expected = sitk.GetArrayFromImage(tracheal_column(ct))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.DICOMOrient(turned, "LPS")), expected)


def test_in_a_large_scan_the_column_is_found_on_a_coarser_grid(monkeypatch):
    ct = sitk.Image(scan(14.0))
    ct.SetSpacing((0.75, 0.75, 0.75))
    column = tracheal_column(ct)
    monkeypatch.setattr(trachea, "_LARGE_VOXELS", 0)
    monkeypatch.setattr(trachea, "_FINEST_MM", 1.2)
    coarse = tracheal_column(ct)
    assert coarse is not None
    assert Grid.of(coarse) == Grid.of(ct)
    a, b = (sitk.GetArrayFromImage(one) > 0 for one in (column, coarse))
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.85


@pytest.mark.parametrize("radius_mm", [2.0, 25.0])
def test_a_tube_too_thin_or_too_wide_is_no_trachea(radius_mm):
    assert tracheal_column(scan(radius_mm)) is None


@pytest.mark.slow
def test_the_column_of_a_real_scan_lies_in_the_region_grown_airways(data_folder):
    from imbalanceseg.io import read_image

    ct = read_image(data_folder / "airway_ricord" / "dicom")
    reference = sitk.ReadImage(str(data_folder / "airway_ricord" / "airway_region_grown.nii.gz"))
    column = tracheal_column(ct)
    assert column is not None
    inside = sitk.GetArrayFromImage(column) > 0
    assert inside.sum() > 1000
    assert (sitk.GetArrayFromImage(reference)[inside] > 0).mean() > 0.9
