"""Grids keep every voxel in its place, and every change of grid has its inverse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from imbalanceseg.errors import GeometryError
from imbalanceseg.geometry import Grid, image_from_array, require_same_grid, resample

_spacing = st.floats(0.2, 7.0)
_position = st.floats(-500, 500)


@st.composite
def grids(draw: st.DrawFn, max_size: int = 7) -> Grid:
    """Any grid: oblique, permuted, flipped, left-handed, anisotropic."""
    angles = [draw(st.floats(-180, 180)) for _ in range(3)]
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    signed = np.diag([draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)])
    order = draw(st.permutations(range(3)))
    return Grid(
        size=tuple(draw(st.integers(2, max_size)) for _ in range(3)),
        spacing_mm=tuple(draw(_spacing) for _ in range(3)),
        origin_mm=tuple(draw(_position) for _ in range(3)),
        direction=tuple((turn @ signed)[:, order].ravel()),
    )


def noise(grid: Grid, pixel_type: type = np.float32, seed: int = 0) -> sitk.Image:
    values = np.random.default_rng(seed).integers(-1000, 1000, grid.size[::-1])
    return image_from_array(values.astype(pixel_type), grid)


def indices(grid: Grid) -> np.ndarray:
    """Every index (i, j, k), in the order of the raveled array."""
    k, j, i = np.indices(grid.size[::-1]).reshape(3, -1)
    return np.stack([i, j, k], axis=1)


def ramp(grid: Grid, slope: np.ndarray, offset: float) -> sitk.Image:
    """A float64 image whose value is a linear function of the position."""
    values = grid.index_to_physical(indices(grid)) @ slope + offset
    return image_from_array(values.reshape(grid.size[::-1]), grid)


@given(grids())
def test_grid_of_an_image_is_the_grid_it_was_placed_on(grid: Grid) -> None:
    assert Grid.of(noise(grid)).same_as(grid, 1e-9)


@given(grids(), st.tuples(_position, _position, _position))
def test_index_and_physical_agree_with_simpleitk(grid: Grid, point: tuple[float, ...]) -> None:
    image = noise(grid)
    index = image.TransformPhysicalPointToContinuousIndex(point)
    np.testing.assert_allclose(grid.physical_to_index(point), index, atol=1e-6)
    back = image.TransformContinuousIndexToPhysicalPoint(index)
    np.testing.assert_allclose(grid.index_to_physical(index), back, atol=1e-6)


@given(grids())
def test_index_to_physical_and_back(grid: Grid) -> None:
    index = np.random.default_rng(0).uniform(-3, 9, (4, 5, 3))
    there = grid.index_to_physical(index)
    assert there.shape == index.shape
    np.testing.assert_allclose(grid.physical_to_index(there), index, atol=1e-8)


@given(grids())
def test_oriented_lps_runs_nearest_to_the_patient_axes(grid: Grid) -> None:
    matrix = grid.oriented_lps().matrix
    assert np.all(np.diag(matrix) >= -1e-12)
    assert np.trace(matrix) >= np.abs(grid.matrix).trace() - 1e-9


@given(grids())
def test_oriented_lps_keeps_every_voxel_in_place(grid: Grid) -> None:
    image = noise(grid, np.int16)
    oriented = grid.oriented_lps()
    moved = resample(image, oriented, "nearest")
    assert sorted(oriented.size) == sorted(grid.size)
    index = grid.physical_to_index(oriented.index_to_physical(indices(oriented)))
    np.testing.assert_allclose(index, np.rint(index), atol=1e-6)
    i, j, k = np.rint(index).astype(int).T
    expected = sitk.GetArrayFromImage(image)[k, j, i]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(moved).ravel(), expected)


@given(grids())
def test_oriented_lps_is_idempotent_and_undone_by_resampling(grid: Grid) -> None:
    oriented = grid.oriented_lps()
    assert oriented.oriented_lps().same_as(oriented, 1e-9)
    image = noise(grid, np.int16)
    for interpolation in ("nearest", "linear"):
        back = resample(resample(image, oriented, interpolation), grid, interpolation)
        np.testing.assert_array_equal(
            sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image), interpolation
        )


def test_oriented_lps_of_an_upright_image_is_itself() -> None:
    grid = Grid((3, 4, 5), (1.0, 2.0, 3.0), (7.0, 8.0, 9.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    assert grid.oriented_lps() == grid


def test_oriented_lps_of_a_known_flip() -> None:
    # k runs to the left, i to the back, j to the feet
    grid = Grid((3, 4, 5), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0), (0, 0, 1, 1, 0, 0, 0, -1, 0))
    assert grid.oriented_lps() == Grid(
        (5, 3, 4), (3.0, 1.0, 2.0), (0.0, 0.0, -6.0), (1, 0, 0, 0, 1, 0, 0, 0, 1)
    )


@given(grids(), st.tuples(_spacing, _spacing, _spacing))
def test_with_spacing_keeps_the_first_border_and_the_extent(
    grid: Grid, spacing: tuple[float, float, float]
) -> None:
    other = grid.with_spacing(spacing)
    np.testing.assert_allclose(
        other.index_to_physical((-0.5, -0.5, -0.5)),
        grid.index_to_physical((-0.5, -0.5, -0.5)),
        atol=1e-8,
    )
    extent = np.multiply(grid.size, grid.spacing_mm)
    reached = np.multiply(other.size, other.spacing_mm)
    share = np.where(np.array(other.size) == 1, 1.0, 0.5) + 1e-9
    assert np.all(np.abs(reached - extent) <= share * np.array(spacing))
    assert other.direction == grid.direction


@given(grids())
def test_with_its_own_spacing_a_grid_is_itself(grid: Grid) -> None:
    assert grid.with_spacing(grid.spacing_mm).same_as(grid, 1e-9)


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -2, 1), (1, 1, float("nan"))])
def test_with_spacing_refuses_what_is_not_positive(spacing: tuple[float, ...]) -> None:
    grid = Grid((3, 4, 5), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    with pytest.raises(GeometryError) as caught:
        grid.with_spacing(spacing)
    assert caught.value.code == "spacing-invalid"


@given(grids(), st.data())
def test_cropping_takes_the_voxels_and_resampling_puts_them_back(
    grid: Grid, data: st.DataObject
) -> None:
    start = [data.draw(st.integers(0, n - 1)) for n in grid.size]
    size = [data.draw(st.integers(1, n - s)) for n, s in zip(grid.size, start, strict=True)]
    image = noise(grid, np.int16)
    part = resample(image, grid.cropped(start, size))
    box = tuple(slice(s, s + n) for s, n in zip(start[::-1], size[::-1], strict=True))
    voxels = sitk.GetArrayFromImage(image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(part), voxels[box])
    expected = np.full_like(voxels, -7)
    expected[box] = voxels[box]
    back = resample(part, grid, "nearest", outside=-7)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), expected)


def test_cropping_beyond_the_image_pads() -> None:
    grid = Grid((3, 3, 3), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    padded = resample(noise(grid, np.int16), grid.cropped((-1, -1, -1), (5, 5, 5)), outside=-1024)
    voxels = sitk.GetArrayFromImage(padded)
    np.testing.assert_array_equal(voxels[1:-1, 1:-1, 1:-1], sitk.GetArrayFromImage(noise(grid)))
    assert np.all(voxels[0] == -1024)
    assert np.all(voxels[:, :, -1] == -1024)


@given(grids())
def test_resampling_onto_its_own_grid_is_the_identity(grid: Grid) -> None:
    image = noise(grid, np.int16)
    same = resample(image, grid)
    assert Grid.of(same) == Grid.of(image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(same), sitk.GetArrayFromImage(image))


@settings(deadline=None)
@given(grids(max_size=6), grids(max_size=6), st.floats(0.1, 0.9))
def test_linear_interpolation_is_exact_on_linear_images(a: Grid, b: Grid, fraction: float) -> None:
    slope = np.array([0.3, -0.7, 0.5])
    source = ramp(a, slope, 11.0)
    # finer than the source everywhere, so nothing is smoothed, and inside it
    centre = a.index_to_physical((np.array(a.size) - 1) / 2)
    step = fraction * min(a.spacing_mm) / 3**0.5 / 6
    target = Grid(b.size, (step,) * 3, tuple(centre), b.direction)
    moved = sitk.GetArrayFromImage(resample(source, target)).ravel()
    points = target.index_to_physical(indices(target))
    inside = np.all(
        (a.physical_to_index(points) >= 0) & (a.physical_to_index(points) <= np.array(a.size) - 1),
        axis=1,
    )
    assert inside.any()
    np.testing.assert_allclose(moved[inside], (points @ slope + 11.0)[inside], atol=1e-6)


@pytest.mark.parametrize("factor", [2, 3, 5])
@pytest.mark.parametrize("value", [-1000, -3, 5, 30000])
def test_constant_integers_stay_what_they_are(factor: int, value: int) -> None:
    grid = Grid((20, 21, 22), (0.7, 0.7, 1.0), (1.0, 2.0, 3.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    image = image_from_array(np.full(grid.size[::-1], value, np.int16), grid)
    target = grid.with_spacing([factor * s for s in grid.spacing_mm])
    coarse = resample(image, target, outside=value)
    assert coarse.GetPixelID() == sitk.sitkInt16
    assert np.unique(sitk.GetArrayFromImage(coarse)).tolist() == [value]


def test_integers_are_rounded_to_the_nearest_not_cut() -> None:
    grid = Grid((2, 2, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    values = np.array([[[-10, -13]] * 2] * 2, dtype=np.int16)
    target = Grid((1, 1, 1), (0.1, 0.1, 0.1), (0.6, 0.5, 0.5), grid.direction)
    middle = resample(image_from_array(values, grid), target)
    assert middle.GetPixel(0, 0, 0) == -12  # -11.8


def test_integers_beyond_float32_are_kept() -> None:
    grid = Grid((4, 3, 3), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (-1, 0, 0, 0, 1, 0, 0, 0, 1))
    values = np.full((3, 3, 4), 2**24 + 1, dtype=np.int32)
    flipped = resample(image_from_array(values, grid), grid.oriented_lps())
    assert np.unique(sitk.GetArrayFromImage(flipped)).tolist() == [2**24 + 1]


def test_overshoot_is_clamped_to_the_pixel_type() -> None:
    grid = Grid((8, 8, 8), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    values = np.zeros((8, 8, 8), dtype=np.uint8)
    values[:, :, 4:] = 255
    fine = resample(image_from_array(values, grid), grid.with_spacing((0.5, 0.5, 0.5)), "bspline")
    row = sitk.GetArrayFromImage(fine)[8, 8].astype(int)
    assert row[:5].max() < 20
    assert row[-5:].min() > 235


def test_thin_structures_fade_instead_of_vanishing() -> None:
    grid = Grid((24, 24, 24), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    for offset in range(4):
        values = np.zeros((24, 24, 24), dtype=np.float32)
        values[:, :, 10 + offset] = 1000
        coarse = resample(image_from_array(values, grid), grid.with_spacing((4.0, 1.0, 1.0)))
        assert sitk.GetArrayFromImage(coarse)[12, 12].max() > 100


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_the_border_value_reaches_half_a_voxel_out(interpolation: str) -> None:
    grid = Grid((3, 3, 3), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    image = image_from_array(np.full((3, 3, 3), 9, np.int16), grid)
    line = resample(
        image,
        Grid((10, 1, 1), (1.0, 1.0, 1.0), (-2.5, 0, 0), grid.direction),
        interpolation,
        outside=-1,
    )
    # centres at -2.5, -1.5, -0.5, ... 6.5 mm; the image reaches from -1 to 5 mm
    assert sitk.GetArrayFromImage(line).ravel().tolist() == [-1, -1] + [9] * 6 + [-1, -1]


def test_labels_keep_their_values_when_the_grid_gets_coarser() -> None:
    grid = Grid((20, 20, 20), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    values = np.random.default_rng(1).choice([0, 1, 4, 255], (20, 20, 20)).astype(np.uint8)
    coarse = resample(image_from_array(values, grid), grid.with_spacing((3.0, 2.0, 2.5)), "nearest")
    assert set(np.unique(sitk.GetArrayFromImage(coarse))) <= {0, 1, 4, 255}


def test_same_as_sees_a_shift_and_a_turn_of_the_far_corner() -> None:
    grid = Grid((100, 100, 100), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    shifted = Grid(grid.size, grid.spacing_mm, (0.01, 0.0, 0.0), grid.direction)
    turn = Rotation.from_euler("z", 0.01, degrees=True).as_matrix()
    turned = Grid(grid.size, grid.spacing_mm, grid.origin_mm, tuple(turn.ravel()))
    assert grid.same_as(grid)
    assert not grid.same_as(shifted)
    assert grid.same_as(shifted, tolerance_mm=0.011)
    assert not grid.same_as(turned)
    assert not grid.same_as(grid.cropped((0, 0, 0), (100, 100, 99)))


def test_the_first_difference_of_two_grids_is_told() -> None:
    grid = Grid((3, 4, 5), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    flipped = Grid(grid.size, grid.spacing_mm, grid.origin_mm, (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    moved = Grid(grid.size, grid.spacing_mm, (0.0, 2.5, 0.0), grid.direction)
    assert grid.with_spacing((1.0, 1.0, 2.5)).difference_to(grid).startswith("its size is (3, 4, 2")
    assert moved.difference_to(grid) == "its origin in mm is (0, 2.5, 0), not (0, 0, 0)"
    assert flipped.difference_to(moved).startswith("its origin in mm is (0, 0, 0), not (0, 2.5, 0)")
    assert flipped.difference_to(grid).startswith("its direction is (-1, 0, 0")


def test_require_same_grid_says_which_and_how() -> None:
    grid = Grid((3, 4, 5), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    require_same_grid(noise(grid), noise(grid), ("scan", "labels"))
    with pytest.raises(GeometryError) as caught:
        require_same_grid(
            noise(grid), noise(grid.cropped((0, 0, 0), (2, 2, 2))), ("scan", "labels")
        )
    assert caught.value.code == "grid-mismatch"
    assert "scan" in caught.value.message
    assert "(2, 2, 2)" in caught.value.message
    assert caught.value.hint


def test_array_of_another_shape_is_refused() -> None:
    grid = Grid((3, 4, 5), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    with pytest.raises(GeometryError) as caught:
        image_from_array(np.zeros((3, 4, 5)), grid)
    assert caught.value.code == "shape-mismatch"
    assert image_from_array(np.ones((5, 4, 3), bool), grid).GetPixelID() == sitk.sitkUInt8


def test_grid_of_a_flat_image_is_refused() -> None:
    with pytest.raises(GeometryError) as caught:
        Grid.of(sitk.Image([4, 4], sitk.sitkInt16))
    assert caught.value.code == "image-not-3d"


def test_cosines_next_to_nothing_do_not_break_the_inversion() -> None:
    tiny = 4e-303
    direction = (0, -1, 0, -1, 0, tiny, -tiny, 0, -1)
    grid = Grid((2, 2, 2), (0.2, 1.0, 1.0), (0.0, 0.0, 0.0), direction)
    assert grid.direction == (0, -1, 0, -1, 0, 0, 0, 0, -1)
    moved = resample(noise(grid, np.int16), grid.oriented_lps(), "nearest")
    assert sorted(sitk.GetArrayFromImage(moved).ravel()) == sorted(
        sitk.GetArrayFromImage(noise(grid, np.int16)).ravel()
    )


@pytest.mark.parametrize(
    ("change", "sound"),
    [
        ({}, True),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, False),
        ({"spacing_mm": (1.0, float("inf"), 1.0)}, False),
        ({"origin_mm": (float("nan"), 0.0, 0.0)}, False),
        ({"direction": (1, 0, 0, 0, 1, 0, 0, 0, 0)}, False),
        ({"direction": (1, 0.1, 0, 0, 1, 0, 0, 0, 1)}, False),
        ({"direction": (0, 1, 0, 1, 0, 0, 0, 0, 1)}, True),
    ],
)
def test_soundness(change: dict[str, tuple[float, ...]], sound: bool) -> None:
    grid = Grid((3, 3, 3), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    assert replace(grid, **change).is_sound() is sound
