"""The overview picture: what it must contain, and that left and right are not confused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.errors import GeometryError
from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.inference.segmentation import Segmentation
from imbalanceseg.labels import AIRWAY_TREE, TUMOR
from imbalanceseg.reporting.canvas import HEIGHT_PX, WIDTH_PX
from imbalanceseg.reporting.overview import draw_overview, write_overview
from imbalanceseg.reporting.scene import Scene

GRID = Grid((40, 36, 20), (1.0, 1.0, 3.0), (-20.0, -18.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def _case(hardness: bool = True, empty: bool = False) -> tuple[sitk.Image, Segmentation]:
    array = np.full(GRID.size[::-1], -900.0, np.float32)
    labels = np.zeros(GRID.size[::-1], np.uint8)
    if not empty:
        # Near the patient's right, front and head.
        labels[14:18, 4:9, 3:8] = 1
    array[labels > 0] = 100.0
    image = image_from_array(array, GRID)
    map_image = image_from_array((labels * 0.5).astype(np.float32), GRID)
    result = Segmentation(
        image_from_array(labels, GRID),
        (AIRWAY_TREE,),
        "airway",
        "0.1.0",
        hardness=map_image if hardness else None,
        notes=("The model found nothing in this scan.",) if empty else (),
    )
    return image, result


def _texts(figure: object) -> list[str]:
    from matplotlib.text import Text

    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


@pytest.mark.parametrize("hardness", [True, False])
@pytest.mark.parametrize("empty", [True, False])
def test_a_picture_of_the_stated_size_is_written(
    tmp_path: Path, hardness: bool, empty: bool
) -> None:
    path = tmp_path / "overview.png"
    write_overview(*_case(hardness, empty), path)
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert picture.shape[:2] == (HEIGHT_PX, WIDTH_PX)
    assert picture[..., :3].std() > 5


def test_it_names_model_disclaimer_scale_and_every_side() -> None:
    texts = _texts(draw_overview(*_case()))
    joined = "\n".join(texts)
    assert "NOT FOR CLINICAL USE" in texts
    assert "model airway 0.1.0" in joined
    assert {"R", "L", "A", "P", "S", "I"} <= set(texts)
    assert {"axial", "coronal", "sagittal", "hardness (maximum)", "1 cm"} <= set(texts)


def test_notes_are_in_the_picture() -> None:
    assert "The model found nothing in this scan." in _texts(draw_overview(*_case(empty=True)))


def test_right_and_front_are_on_the_left_and_front_and_head_are_up() -> None:
    figure = draw_overview(*_case(), window={"center": -400, "width": 1000})
    for axes in figure.axes[:3]:
        x, y = _bright_centre(axes)
        assert x < 0.4
        assert y > 0.6


def _bright_centre(axes: object) -> tuple[float, float]:
    """Centre of the bright voxels of the picture in axes coordinates, y upwards."""
    picture = axes.images[0]
    array = np.asarray(picture.get_array())
    rows, columns = np.nonzero(array > 0)
    left, right, bottom, top = picture.get_extent()
    x = left + (columns.mean() + 0.5) / array.shape[1] * (right - left)
    y = top + (rows.mean() + 0.5) / array.shape[0] * (bottom - top)
    shown = axes.transData.transform((x, y))
    return tuple(axes.transAxes.inverted().transform(shown))


def test_pixels_of_all_planes_have_true_aspect() -> None:
    for axes in draw_overview(*_case()).axes[:5]:
        (x0, y0), (x1, y1) = axes.transData.transform([(0, 0), (10, 10)])
        assert abs(x1 - x0) == pytest.approx(abs(y1 - y0), rel=0.01)


def test_turned_scans_give_the_same_scene() -> None:
    image, result = _case()
    turned = Grid(
        (20, 40, 36),
        (3.0, 1.0, 1.0),
        tuple(GRID.index_to_physical((39, 0, 19))),
        (0, -1, 0, 0, 0, 1, -1, 0, 0),
    )
    other = Segmentation(
        resample(result.labels, turned, "nearest"),
        result.segments,
        "airway",
        "0.1.0",
        hardness=resample(result.hardness, turned, "nearest"),
    )
    one, two = Scene.of(image, result, None), Scene.of(resample(image, turned), other, None)
    assert np.array_equal(one.labels, two.labels)
    assert np.allclose(one.image, two.image, atol=1e-3)
    assert one.focus == two.focus
    assert one.spacing_mm == two.spacing_mm


def test_oblique_axes_get_two_letters() -> None:
    image, result = _case()
    matrix = sitk.Euler3DTransform((0, 0, 0), 0.4, 0.0, 0.0).GetMatrix()
    for one in (image, result.labels, result.hardness):
        one.SetDirection(matrix)
    scene = Scene.of(image, result, None)
    assert scene.letters(0) == ("R", "L")
    assert scene.letters(1) == ("AI", "PS")
    assert scene.letters(2) == ("IP", "SA")


def test_the_focus_prefers_slices_with_spread_out_label() -> None:
    labels = np.zeros(GRID.size[::-1], np.uint8)
    labels[2, 10:17, 10:17] = 1
    labels[12, 16:20, 2:8] = labels[12, 16:20, 30:36] = 1
    result = Segmentation(image_from_array(labels, GRID), (AIRWAY_TREE,), "airway", "0.1.0")
    image = image_from_array(labels.astype(np.float32), GRID)
    assert Scene.of(image, result, None).focus[2] == 12


def test_several_segments_are_all_drawn() -> None:
    image, result = _case()
    labels = sitk.GetArrayFromImage(result.labels)
    labels[14:18, 4:6, 3:8] = 2
    second = type(TUMOR)(2, "Tumor", TUMOR.category, TUMOR.type, TUMOR.color)
    both = Segmentation(
        image_from_array(labels, GRID), (AIRWAY_TREE, second), "x", "1", hardness=result.hardness
    )
    assert {"Airway tree", "Tumor", "Airway tree, Tumor"} <= set(_texts(draw_overview(image, both)))


def test_labels_of_another_grid_are_refused(tmp_path: Path) -> None:
    image, result = _case()
    image.SetOrigin((0, 0, 0))
    with pytest.raises(GeometryError, match="same grid"):
        write_overview(image, result, tmp_path / "overview.png")
