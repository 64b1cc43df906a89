"""Region growing: it must find the trachea, and stop before it leaks into the lung."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import read_image
from imbalanceseg.metrics.evaluate import evaluate

from .region_growing import NoTracheaError, grow_airways

GRID = Grid((100, 90, 80), (1.5, 1.5, 2.0), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def chest(leak_hu: int | None = -905) -> tuple[np.ndarray, np.ndarray]:
    """HU of a body with two lungs and a trachea, and where the trachea is, ``[z, y, x]``.

    A pinhole of ``leak_hu`` joins the trachea to a lung of -880 HU.
    """
    k, j, i = np.indices(GRID.size[::-1]) * np.array([2.0, 1.5, 1.5])[:, None, None, None]
    hu = np.full(k.shape, -1000.0)
    hu[((i - 75) / 72) ** 2 + ((j - 67) / 60) ** 2 < 1] = 40
    for x in (38, 112):
        hu[((i - x) / 24) ** 2 + ((j - 67) / 40) ** 2 + ((k - 60) / 55) ** 2 < 1] = -880
    trachea = ((i - 75) ** 2 + (j - 67) ** 2 < 8**2) & (k > 50)
    hu[trachea] = -990
    if leak_hu is not None:
        hu[35, 45, 43:56][hu[35, 45, 43:56] > -800] = leak_hu
        hu[35, 45, 30:44][hu[35, 45, 30:44] > -800] = leak_hu
    return hu, trachea


def image(hu: np.ndarray) -> sitk.Image:
    return image_from_array(hu.astype(np.int16), GRID)


def test_the_threshold_stops_just_before_the_leak() -> None:
    hu, trachea = chest(leak_hu=-905)
    found = grow_airways(image(hu))
    # The lung itself joins at -880, through the pinhole that opens at -905.
    assert found.threshold == -881
    labels = sitk.GetArrayFromImage(found.labels) > 0
    assert labels[trachea].all()
    assert np.count_nonzero(labels & ~trachea) < 0.02 * np.count_nonzero(trachea)
    i, j, k = found.seed
    assert trachea[k, j, i]


def test_storage_order_does_not_matter() -> None:
    hu, _ = chest()
    turned = sitk.Flip(sitk.PermuteAxes(image(hu), (2, 0, 1)), (False, True, True))
    found = grow_airways(turned)
    assert Grid.of(found.labels) == Grid.of(turned)
    again = grow_airways(image(hu))
    assert found.threshold == again.threshold
    i, j, k = found.seed
    assert sitk.GetArrayFromImage(found.labels)[k, j, i] == 1
    assert sitk.GetArrayFromImage(found.labels).sum() == sitk.GetArrayFromImage(again.labels).sum()


def test_a_body_without_trachea_has_no_seed() -> None:
    hu, trachea = chest(leak_hu=None)
    hu[trachea] = 40
    with pytest.raises(NoTracheaError):
        grow_airways(image(hu))


@pytest.mark.slow
def test_it_equals_a_region_grown_reference(data_folder: Path) -> None:
    case = data_folder / "airway_ricord"
    found = grow_airways(read_image(case / "dicom"))
    assert found.threshold == pytest.approx(-870, abs=2)
    figures = evaluate(found.labels, read_image(case / "airway_region_grown.nii.gz"), ["dice"])
    assert figures["dice"] > 0.98
