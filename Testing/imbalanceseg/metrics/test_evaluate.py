"""One call for all figures: against MONAI and scikit-learn-style identities, and hostile input."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imbalanceseg.errors import GeometryError, InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.metrics.evaluate import DEFAULT_METRICS, evaluate

GRID = Grid((6, 5, 4), (0.5, 1.0, 3.0), (1, 2, 3), (1, 0, 0, 0, 1, 0, 0, 0, 1))
OVERLAP = ("dice", "iou", "precision", "recall", "volume_error")


def image(values: np.ndarray) -> sitk.Image:
    return image_from_array(values, GRID)


def box(*spans: tuple[int, int]) -> np.ndarray:
    values = np.zeros((4, 5, 6), np.uint8)
    values[tuple(slice(*span) for span in spans)] = 1
    return values


def test_counted_by_hand() -> None:
    prediction = image(box((0, 2), (0, 2), (0, 3)))
    reference = image(box((0, 2), (0, 2), (1, 5)))
    figures = evaluate(prediction, reference, OVERLAP)
    assert figures == {
        "dice": pytest.approx(16 / 28),
        "iou": pytest.approx(8 / 20),
        "precision": pytest.approx(8 / 12),
        "recall": pytest.approx(8 / 16),
        "volume_error": pytest.approx(4 / 16),
    }


@pytest.mark.parametrize(("axis", "spacing"), [(0, 3.0), (1, 1.0), (2, 0.5)])
def test_distances_are_in_mm_along_every_axis(axis: int, spacing: float) -> None:
    plane = np.zeros((4, 5, 6), np.uint8)
    other = plane.copy()
    np.moveaxis(plane, axis, 0)[1] = 1
    np.moveaxis(other, axis, 0)[3] = 1
    figures = evaluate(image(plane), image(other), ("hd95_mm", "assd_mm"))
    assert figures == {"hd95_mm": pytest.approx(2 * spacing), "assd_mm": pytest.approx(2 * spacing)}


@settings(max_examples=50, deadline=None)
@given(*(arrays(np.uint8, (4, 5, 6), elements=st.integers(0, 2)) for _ in range(2)))
def test_identities(first: np.ndarray, second: np.ndarray) -> None:
    there = evaluate(image(first), image(second), OVERLAP, labels=[1])
    back = evaluate(image(second), image(first), OVERLAP, labels=[1])
    assert there["dice"] == back["dice"]
    assert there["precision"] == back["recall"]
    assert there["iou"] == pytest.approx(there["dice"] / (2 - there["dice"]))
    assert evaluate(image(first), image(first), OVERLAP)["dice"] == 1.0


def test_labels_are_scored_one_by_one_and_averaged() -> None:
    reference = box((0, 2), (0, 5), (0, 6)) + box((0, 1), (0, 5), (0, 6))
    prediction = np.where(reference == 2, 0, reference)
    figures = evaluate(image(prediction), image(reference), ("dice",))
    assert figures == {"dice": 0.5, "dice[1]": 1.0, "dice[2]": 0.0}
    assert evaluate(image(prediction), image(reference), "dice", labels=[1]) == {"dice": 1.0}


def test_unlabelled_voxels_are_ignored() -> None:
    prediction, reference = box((0, 4), (0, 5), (0, 6)), box((0, 2), (0, 5), (0, 6))
    reference[2:] = 255
    figures = evaluate(image(prediction), image(reference))
    assert figures["dice"] == figures["precision"] == 1.0
    assert figures["hd95_mm"] == figures["volume_error"] == 0.0


def test_empty_masks_are_defined() -> None:
    empty, full = image(box((0, 0))), image(box((0, 4)))
    both = evaluate(empty, empty, (*DEFAULT_METRICS, "airway"))
    assert {n for n, v in both.items() if v == 1.0} == {
        "dice", "iou", "precision", "recall", "length_detected", "branch_detected",
    }  # fmt: skip
    assert {n for n, v in both.items() if v == 0.0} == {
        "hd95_mm", "assd_mm", "volume_error", "leakage_mm3",
    }  # fmt: skip
    missed = evaluate(empty, full)
    assert missed["dice"] == missed["precision"] == missed["recall"] == 0.0
    assert missed["hd95_mm"] == missed["assd_mm"] == math.inf
    assert missed["volume_error"] == 1.0
    assert evaluate(full, empty)["volume_error"] == math.inf


def test_airway_figures_are_there_when_asked_for() -> None:
    tube = image(box((0, 4), (2, 3), (2, 3)))
    assert evaluate(tube, tube, ["airway"]) == {
        "length_detected": 1.0,
        "branch_detected": 1.0,
        "leakage_mm3": 0.0,
    }
    assert "length_detected" not in evaluate(tube, tube)


def test_surface_dice_takes_the_tolerance() -> None:
    plane, other = (image(box((0, 4), (y, y + 1), (0, 6))) for y in (1, 2))
    near, far = (evaluate(plane, other, "surface_dice", tolerance_mm=mm) for mm in (0.4, 1.0))
    assert near["surface_dice"] < far["surface_dice"] == 1.0
    for tolerance in (-1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="tolerance"):
            evaluate(plane, plane, "surface_dice", tolerance_mm=tolerance)


def test_instances_are_counted_for_each_label() -> None:
    pytest.importorskip("panoptica")
    reference, prediction = box((0, 0)), box((0, 0))
    reference[0, 0, 0], reference[0, 0, 3:5], reference[3, 4, :2] = 1, 1, 2
    prediction[0, 0, 0], prediction[3, 4, 1], prediction[3, 0, 5] = 1, 2, 2
    figures = evaluate(image(prediction), image(reference), "instances")
    assert figures["instance_sensitivity[1]"] == 0.5
    assert figures["instance_precision[1]"] == 1.0
    assert figures["instance_f1[2]"] == pytest.approx(2 / 3)
    assert figures["instance_f1_iou50[2]"] == pytest.approx(2 / 3)
    # voxels of 1.5 mm3: all are small, and a stratum without lesions says nothing
    assert figures["instance_sensitivity_small"] == 0.75
    assert math.isnan(figures["instance_sensitivity_large"])


def test_small_components_are_no_instances() -> None:
    pytest.importorskip("panoptica")
    reference, prediction = box((0, 0)), box((0, 0))
    reference[0, 0, 0], reference[0, 0, 3:5] = 1, 1
    prediction[0, 0, 3:5], prediction[3, 4, 1] = 1, 1
    pair = image(prediction), image(reference)
    # voxels of 1.5 mm3: one of each image is single
    for smallest, expected in ((0, 0.5), (1.5, 0.5), (1.6, 1.0), (3.0, 1.0), (3.1, 1.0)):
        figures = evaluate(*pair, ("instance_f1", "dice"), smallest_instance_mm3=smallest)
        assert figures["instance_f1"] == pytest.approx(expected), smallest
        assert figures["dice"] == pytest.approx(2 / 3)
    for smallest in (-1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="mm3"):
            evaluate(*pair, "instances", smallest_instance_mm3=smallest)


def test_pixel_type_does_not_matter() -> None:
    values = box((0, 2), (0, 5), (0, 6))
    for kind in (np.int16, np.uint32, np.float32, np.float64):
        assert evaluate(image(values.astype(kind)), image(values), "dice")["dice"] == 1.0


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (np.full((4, 5, 6), 0.5, np.float32), "labels-not-whole"),
        (np.full((4, 5, 6), np.nan, np.float32), "labels-out-of-range"),
        (np.full((4, 5, 6), -1000, np.int16), "labels-out-of-range"),
        (np.full((4, 5, 6), 1e9, np.float64), "labels-out-of-range"),
    ],
)
def test_what_is_no_label_image_is_refused(values: np.ndarray, code: str) -> None:
    with pytest.raises(InputError) as caught:
        evaluate(image(values), image(box((0, 1))))
    assert caught.value.code == code


def test_vectors_other_grids_and_unknown_names_are_refused() -> None:
    mask = image(box((0, 1)))
    with pytest.raises(InputError, match="values per voxel"):
        evaluate(sitk.Compose(mask, mask), mask)
    with pytest.raises(GeometryError, match="same grid"):
        evaluate(mask[:, :, :3], mask)
    with pytest.raises(GeometryError, match="dimensions"):
        evaluate(mask[:, :, 0], mask[:, :, 0])
    with pytest.raises(InputError, match="no metric 'dce'"):
        evaluate(mask, mask, ["dce"])
    for labels in ([0], [255], []):
        with pytest.raises(InputError):
            evaluate(mask, mask, labels=labels)


def test_overlap_and_airway_need_no_torch() -> None:
    code = (
        "import sys, imbalanceseg.metrics.airway, imbalanceseg.metrics.evaluate as e\n"
        "import numpy as np, SimpleITK as sitk\n"
        "i = sitk.GetImageFromArray(np.ones((6, 6, 6), np.uint8))\n"
        "e.evaluate(i, i, ['dice', 'airway'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
