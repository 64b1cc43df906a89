"""Suggested slices lie where painting helps, whichever way a scan is stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.annotation.hard_regions import hard_regions
from imbalanceseg.annotation.patient_order import PatientOrder
from imbalanceseg.annotation.suggest import SliceSuggestion, suggest_slices
from imbalanceseg.annotation.unresolved import Unresolved
from imbalanceseg.errors import GeometryError, InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.inference.segmentation import Segmentation

STRAIGHT = (1, 0, 0, 0, 1, 0, 0, 0, 1)
GRID = Grid((40, 36, 32), (3.0, 3.0, 3.0), (-50.0, 20.0, 100.0), STRAIGHT)
FINE = Grid((60, 51, 47), (1.0, 1.0, 1.3), (-50.0, 20.0, 100.0), STRAIGHT)
Array = np.ndarray


def ball(grid: Grid, centre: tuple[float, float, float], radius_mm: float) -> Array:
    """Where voxels lie in a ball around a continuous index (i, j, k)."""
    k, j, i = np.indices(grid.size[::-1])
    gap = grid.index_to_physical(np.stack([i, j, k], -1)) - grid.index_to_physical(centre)
    return np.linalg.norm(gap, axis=-1) <= radius_mm


def result(
    grid: Grid, labels: Array, hardness: Array | None = None, probability: Array | None = None
) -> Segmentation:
    def image(array: Array | None) -> sitk.Image | None:
        return None if array is None else image_from_array(array.astype(np.float32), grid)

    return Segmentation(
        labels=image_from_array(labels.astype(np.uint8), grid),
        segments=(),
        model_name="test",
        model_version="1",
        probability=image(probability),
        hardness=image(hardness),
    )


def places(grid: Grid, suggestions: list[SliceSuggestion]) -> list[tuple[Array, float]]:
    """Normal and offset in mm of the planes, whichever way the axes run."""
    found = []
    for one in suggestions:
        normal = grid.matrix[:, one.axis]
        normal = normal * np.sign(normal[np.abs(normal).argmax()])
        index = np.zeros(3)
        index[one.axis] = one.index
        found.append((normal, float(grid.index_to_physical(index) @ normal)))
    return found


def lumpy(grid: Grid) -> Segmentation:
    """Three structures, unequally hard."""
    labels, hardness = np.zeros(grid.size[::-1]), np.zeros(grid.size[::-1])
    nx, ny, nz = grid.size
    for n, (where, radius) in enumerate(
        [((0.3, 0.3, 0.3), 9), ((0.7, 0.4, 0.6), 13), ((0.4, 0.8, 0.75), 7)], start=1
    ):
        centre = (where[0] * nx, where[1] * ny, where[2] * nz)
        inner = ball(grid, centre, radius)
        labels[inner] = 1
        hardness[ball(grid, centre, radius + 2) & ~ball(grid, centre, radius - 3)] = 0.2 * n
    return result(grid, labels, hardness)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_hardest_slice_comes_first(axis: int) -> None:
    labels = ball(GRID, (20, 18, 16), 40)
    hardness = np.zeros(labels.shape)
    plane = tuple(13 if n == 2 - axis else slice(None) for n in range(3))
    hardness[plane] = 0.8 * labels[plane]
    first = suggest_slices(result(GRID, labels, hardness), n=1)
    assert [(one.axis, one.index, one.score) for one in first] == [(axis, 13, 1.0)]


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("flips", [(False,) * 3, (True, False, True), (True,) * 3])
def test_the_way_of_storing_changes_nothing(
    axes: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    plain = lumpy(FINE)
    assert plain.hardness is not None

    def stored(image: sitk.Image) -> sitk.Image:
        return sitk.Flip(sitk.PermuteAxes(image, axes), flips)

    other = replace(plain, labels=stored(plain.labels), hardness=stored(plain.hardness))
    annotation = Annotation(FINE)
    annotation.paint_slice(1, 30, np.zeros((47, 60), np.uint8))
    annotation.click(FINE.index_to_physical((18, 15, 14)), 1, 4)
    turned = Annotation.from_labels(stored(annotation.image))
    turned.confirm(axes.index(1), 50 - 30 if flips[axes.index(1)] else 30)
    expected = suggest_slices(plain, annotation)
    got = suggest_slices(other, turned)
    assert [(one.score, one.reason) for one in got] == [(one.score, one.reason) for one in expected]
    for (a, b), (c, d) in zip(
        places(Grid.of(other.labels), got), places(FINE, expected), strict=True
    ):
        np.testing.assert_allclose(a, c, atol=1e-9)
        assert b == pytest.approx(d)


def test_an_oblique_scan_has_the_same_suggestions() -> None:
    turn = Rotation.from_euler("xyz", [12, -8, 17], degrees=True).as_matrix()
    oblique = replace(FINE, direction=tuple(turn.ravel()))
    got, expected = suggest_slices(lumpy(oblique)), suggest_slices(lumpy(FINE))
    assert [(one.axis, one.index) for one in got] == [(one.axis, one.index) for one in expected]


def test_gains_are_those_of_the_plain_sums() -> None:
    given = lumpy(GRID)
    order = PatientOrder.of(GRID)
    amount = hard_regions(given, order).amount
    left = Unresolved(amount, order, None)
    rest = amount.astype(np.float64)
    for axis, position in ((2, 12), (0, 20), (2, 17)):
        left.paint(axis, position)
        gap = 3.0 * (np.arange(GRID.size[axis]) - position)
        share = np.exp(-0.5 * (gap / left.reach_mm) ** 2)
        rest *= np.expand_dims(1 - share, tuple(n for n in range(3) if n != 2 - axis))
    for axis, gains in enumerate(left.gains()):
        profile = rest.sum(tuple(n for n in range(3) if n != 2 - axis))
        gap = 3.0 * np.subtract.outer(np.arange(len(profile)), np.arange(len(profile)))
        expected = np.exp(-0.5 * (gap / left.reach_mm) ** 2) @ profile
        np.testing.assert_allclose(gains, expected, rtol=1e-4, atol=1e-3)


def test_merged_voxels_lose_nothing() -> None:
    given = lumpy(FINE)
    assert given.hardness is not None
    order = PatientOrder.of(FINE)
    assert order.factors == (2, 2, 1)
    values = sitk.GetArrayFromImage(given.hardness)
    assert order.sums(order.turned(values)).sum() == pytest.approx(values.sum(), rel=1e-5)
    np.testing.assert_allclose(order.sums(order.turned(values > 0)).sum(), (values > 0).sum())
    np.testing.assert_allclose(order.means(np.ones((47, 51, 60))), 1)


def test_near_painted_slices_little_is_left() -> None:
    given = lumpy(GRID)
    annotation = Annotation(GRID)
    for _ in range(3):
        (first,) = suggest_slices(given, annotation, 1)
        for one in annotation.confirmed:
            assert (one.axis, abs(one.index - first.index) * 3 < 5) != (first.axis, True)
        annotation.confirm(first.axis, first.index)


def test_suggestions_keep_apart_and_look_from_several_sides() -> None:
    labels = ball(GRID, (20, 18, 16), 25)
    suggestions = suggest_slices(result(GRID, labels), n=6)
    assert len({one.axis for one in suggestions}) > 1
    for n, one in enumerate(suggestions):
        for other in suggestions[:n]:
            assert one.axis != other.axis or abs(one.index - other.index) * 3 >= 5
    scores = [one.score for one in suggestions]
    assert scores[0] == 1.0
    assert scores == sorted(scores, reverse=True)


def test_far_noise_does_not_outweigh_what_is_to_be_segmented() -> None:
    labels = ball(GRID, (9, 9, 9), 10)
    noise = 0.12 * np.random.default_rng(0).random(labels.shape)
    hardness = noise + 0.3 * (ball(GRID, (9, 9, 9), 13) & ~ball(GRID, (9, 9, 9), 7))
    for one in suggest_slices(result(GRID, labels, hardness), n=4):
        assert 4 <= one.index <= 14


@pytest.mark.parametrize("with_probability", [False, True])
def test_a_missed_structure_is_not_forgotten(with_probability: bool) -> None:
    missed = ball(GRID, (30, 27, 24), 12)
    labels = ball(GRID, (9, 9, 9), 4)
    hardness = 0.6 * missed
    probability = 0.4 * missed + 0.9 * labels if with_probability else None
    (first,) = suggest_slices(result(GRID, labels, hardness, probability), n=1)
    assert abs(first.index - (30, 27, 24)[first.axis]) <= 2


def test_the_next_best_source_is_taken() -> None:
    labels = ball(GRID, (20, 18, 16), 20)
    zero = np.zeros(labels.shape)
    doubtful = 0.5 * ball(GRID, (20, 18, 10), 4) + 0.0
    (first,) = suggest_slices(result(GRID, labels, zero, doubtful), n=1)
    assert abs(first.index - (20, 18, 10)[first.axis]) <= 1
    assert first.reason.startswith("hard region")
    (outline,) = suggest_slices(result(GRID, labels, zero, labels), n=1)
    assert outline.reason.startswith("outline")


def test_damaged_maps_do_no_harm() -> None:
    labels = ball(GRID, (20, 18, 16), 20)
    hardness = np.where(labels, 0.5, np.nan)
    hardness[0, 0, :3] = (np.inf, -np.inf, 1e30)
    suggestions = suggest_slices(result(GRID, labels, hardness))
    assert suggestions
    assert all(np.isfinite(one.score) for one in suggestions)


def test_where_nothing_was_found_the_middle_is_suggested() -> None:
    given = result(GRID, np.zeros(GRID.size[::-1]))
    suggestions = suggest_slices(given, n=3)
    first = suggestions[0]
    assert abs(first.index - (GRID.size[first.axis] - 1) / 2) <= 1
    assert first.reason == "no hard region, near the middle of the scan, nothing painted yet"
    annotation = Annotation(GRID)
    annotation.confirm(first.axis, first.index)
    assert suggest_slices(given, annotation, 1)[0].index != first.index
    full = result(GRID, np.ones(GRID.size[::-1]))
    assert suggest_slices(full, n=1)[0].reason.startswith("no hard region")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_with_all_slices_painted_nothing_is_worth_it(axis: int) -> None:
    for given in (lumpy(GRID), lumpy(FINE), result(GRID, np.zeros(GRID.size[::-1]))):
        annotation = Annotation(Grid.of(given.labels))
        for index in range(annotation.grid.size[axis]):
            annotation.confirm(axis, index)
        assert suggest_slices(given, annotation) == []


def test_a_scan_labelled_by_strokes_alone_needs_no_slice() -> None:
    given = lumpy(FINE)
    assert suggest_slices(given, Annotation.from_labels(given.labels)) == []


def test_painting_on_ends_before_all_slices_are_painted() -> None:
    given = lumpy(GRID)
    assert 3 < len(suggest_slices(given, n=1000)) < 30


def test_strokes_count() -> None:
    two = ball(GRID, (10, 18, 16), 9), ball(GRID, (30, 18, 16), 9)
    labels = two[0] | two[1]
    annotation = Annotation(GRID)
    annotation.click(GRID.index_to_physical((10, 18, 16)), 1, 9)
    suggestions = suggest_slices(result(GRID, labels, 0.5 * labels), annotation, 2)
    for one in suggestions:
        assert one.axis != 0 or one.index > 20
        assert "left side" in one.reason
        assert one.reason.endswith("mm from any painted voxel")


def test_reasons_say_where_and_how_far() -> None:
    labels = ball(GRID, (20, 18, 16), 20)
    spot = ball(GRID, (30, 8, 26), 8)
    given = result(GRID, labels | spot, 0.02 * labels + 0.5 * spot, 0.9 * labels + 0.5 * spot)
    even = replace(given, hardness=image_from_array((labels | spot).astype(np.float32), GRID))
    annotation = Annotation(GRID)
    for axis, index in ((0, 20), (1, 18), (2, 16)):
        annotation.confirm(axis, index)
    reasons = [one.reason for one in suggest_slices(even, annotation, 8)]
    assert any(reason.startswith("hard region at the left upper front, ") for reason in reasons)
    (first,) = suggest_slices(given, annotation, 1)
    gaps = [abs(first.index - (30, 8, 26)[first.axis])]
    assert max(gaps) <= 1
    distance = float(first.reason.split(", ")[1].split(" mm from any painted slice")[0])
    assert distance == pytest.approx(30, abs=4)
    assert suggest_slices(given, n=1)[0].reason.endswith(", nothing painted yet")


def test_thick_slices_have_no_advantage() -> None:
    for step in (6.0, 10.0):
        grid = Grid((80, 80, int(80 / step)), (1.0, 1.0, step), (0.0, 0.0, 0.0), STRAIGHT)
        centre = (39.5, 39.5, (grid.size[2] - 1) / 2)
        order = PatientOrder.of(grid)
        amount = hard_regions(result(grid, ball(grid, centre, 25), ball(grid, centre, 25)), order)
        best = [gains.max() for gains in Unresolved(amount.amount, order, None).gains()]
        assert best[2] == pytest.approx(best[0], rel=0.15)


def test_a_single_slice_can_be_suggested() -> None:
    grid = replace(GRID, size=(40, 36, 1))
    labels = ball(grid, (20, 18, 0), 20)
    (first,) = suggest_slices(result(grid, labels), n=1)
    assert (first.axis, first.index) == (2, 0)


def test_the_same_again() -> None:
    assert suggest_slices(lumpy(FINE)) == suggest_slices(lumpy(FINE))


def test_what_is_given_stays_as_it_is() -> None:
    given = lumpy(FINE)
    assert given.hardness is not None
    annotation = Annotation(FINE)
    annotation.confirm(2, 20)
    annotation.click(FINE.index_to_physical((10, 10, 10)), 1)
    before = annotation.copy(), sitk.GetArrayFromImage(given.hardness)
    suggest_slices(given, annotation)
    np.testing.assert_array_equal(annotation.labels, before[0].labels)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(given.hardness), before[1])


def test_refusals() -> None:
    given = lumpy(GRID)
    with pytest.raises(InputError) as few:
        suggest_slices(given, n=0)
    assert few.value.code == "suggestions-none"
    with pytest.raises(GeometryError) as other:
        suggest_slices(given, Annotation(FINE))
    assert other.value.code == "grid-mismatch"
    with pytest.raises(GeometryError) as moved:
        suggest_slices(replace(given, hardness=lumpy(FINE).hardness))
    assert moved.value.code == "grid-mismatch"
