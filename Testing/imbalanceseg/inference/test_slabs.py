"""Components found a slab at a time are those of the whole volume, to the bit."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import cc3d
import fill_voids
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.inference import postprocess
from imbalanceseg.inference.postprocess import clean
from imbalanceseg.inference.slabs import Components, planes_within, spans

CONNECTIVITIES = st.sampled_from([6, 18, 26])
AXES = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def volumes(values: list[int]) -> st.SearchStrategy[np.ndarray]:
    """Small volumes of labels, anisotropic and flat ones too, with much or little in them."""
    shapes = array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9)
    return st.sampled_from([values, [0, *values], [*values, 1, 1]]).flatmap(
        lambda some: arrays(np.uint8, shapes, elements=st.sampled_from(some))
    )


def comb() -> np.ndarray:
    """Teeth that hang together by their last plane only, and one that does not."""
    array = np.zeros((9, 3, 9), np.uint8)
    array[:, 1, ::2], array[8, 1, :7] = 1, 1
    return array


def components(labels: np.ndarray, connectivity: int, planes: int) -> Components:
    return Components(lambda span: labels[span], labels.shape, connectivity, planes)


def numbers(found: Components, shape: tuple[int, ...]) -> np.ndarray:
    whole = np.zeros(shape, np.int64)
    for number in range(1, found.count + 1):
        for span, mask in found.where(np.arange(found.count + 1) == number):
            assert not whole[span][mask].any()
            whole[span][mask] = number
    return whole


@settings(deadline=None, max_examples=200)
@given(volumes([0, 1, 2]), CONNECTIVITIES, st.integers(1, 9))
@example(comb(), 6, 1)
@example(comb(), 26, 4)
def test_numbers_and_sizes_are_those_of_the_whole(labels, connectivity, planes):
    expected = cc3d.connected_components(labels, connectivity=connectivity)
    found = components(labels, connectivity, planes)
    assert found.count == expected.max()
    assert np.array_equal(numbers(found, labels.shape), expected)
    sizes = np.bincount(expected.ravel())
    assert np.array_equal(found.sizes()[1:], sizes[1:])
    assert not found.sizes()[0]
    within = np.indices(labels.shape).sum(axis=0) % 3 == 0
    counted = np.bincount(expected[within], minlength=len(sizes))
    assert np.array_equal(found.sizes(lambda span: within[span]), counted)


@settings(deadline=None)
@given(volumes([0, 1]), st.integers(1, 9), st.sampled_from([(0, 1, 2), (1, 2), (0,)]))
def test_what_touches_the_border_is_told(labels, planes, axes):
    expected = cc3d.connected_components(labels, connectivity=6)
    border = [expected.take(end, axis).ravel() for axis in axes for end in (0, -1)]
    touching = np.isin(np.arange(1, expected.max() + 1), np.concatenate(border))
    assert np.array_equal(components(labels, 6, planes).at_border(axes)[1:], touching)


@pytest.mark.parametrize(("memory", "planes"), [(0, 1), (10 * 12 * 2, 2), (10**9, 5)])
def test_slabs_are_as_high_as_memory_allows(memory, planes):
    assert planes_within((5, 3, 4), memory) == planes
    assert sum(span.stop - span.start for span in spans(5, planes)) == 5


def test_what_fits_is_numbered_once():
    looks = []

    def look(span: slice) -> np.ndarray:
        looks.append(span)
        return comb()[span]

    found = Components(look, (9, 3, 9), 6, 9)
    found.sizes(), list(found.where(np.array([False, True, False])))
    assert looks == [slice(0, 9)]


def whole_box(labels: np.ndarray, card: Any, root: np.ndarray | None, mm3: float) -> None:
    """Post-processing, in place, with the libraries' functions for a whole volume."""
    there = (labels != 0) & (labels != 255)
    if root is not None:
        there |= root
    if not there.any():
        return
    low, high = np.argwhere(there).min(0), np.argwhere(there).max(0) + 1
    box = tuple(slice(*ends) for ends in zip(low, high, strict=True))
    part = labels[box]
    for value in card.fill_holes:
        mask = part == value
        flat = labels.shape.index(1) if 1 in labels.shape else None
        if flat is None:
            filled = fill_voids.fill(mask)
        else:
            filled = np.expand_dims(fill_voids.fill(mask.squeeze(flat)), flat)
        part[filled & (part == 0)] = value
    if root is not None:
        joined = cc3d.connected_components((part == 1) | root[box], connectivity=6)
        part[:] = joined == np.bincount(joined[root[box]]).argmax()
    else:
        for value in card.largest_component_of:
            mask = part == value
            part[mask & ~(cc3d.largest_k(mask, k=1, connectivity=card.connectivity) > 0)] = 0
    known = np.where(part == 255, 0, part)
    kept = cc3d.dust(
        known, threshold=round(card.smallest_mm3 / mm3), connectivity=card.connectivity
    )
    part[known != kept] = 0


@settings(deadline=None, max_examples=300)
@given(volumes([0, 1, 2, 255]), CONNECTIVITIES, st.integers(0, 4000), st.booleans(), st.data())
def test_post_processing_of_any_memory_is_that_of_the_whole_box(
    make_card: Callable[..., Any], labels, connectivity, budget, rooted, data
):
    root = None
    if rooted:
        root = data.draw(arrays(bool, labels.shape, elements=st.sampled_from([False, False, True])))
        root.flat[data.draw(st.integers(0, root.size - 1))] = True
    card = make_card().model_copy(
        update={
            "fill_holes": data.draw(st.permutations([1, 2])),
            "largest_component_of": data.draw(st.sampled_from([(1,), (2, 1), ()])),
            "smallest_mm3": 6.0,
            "connectivity": connectivity,
            "root": "none" if root is None else "trachea",
        }
    )
    grid = Grid(labels.shape[::-1], (0.5, 1.0, 4.0), (0.0, 0.0, 0.0), AXES)
    expected, found = labels.copy(), labels.copy()
    whole_box(expected, card, root, 2.0)
    scan = image_from_array(labels, grid)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            postprocess,
            "tracheal_column",
            lambda _: None if root is None else image_from_array(root, grid),
        )
        clean(found, grid, card, (), scan, budget)
    assert np.array_equal(found, expected)


@settings(deadline=None, max_examples=100)
@given(volumes([0, 1, 2, 255]), st.sampled_from((6, 26)), st.integers(0, 4000))
def test_what_is_certain_somewhere_is_kept_with_any_memory(
    make_card: Callable[..., Any], labels, connectivity, budget
):
    card = make_card(high_threshold=0.9, connectivity=connectivity)
    grid = Grid(labels.shape[::-1], (0.5, 1.0, 4.0), (0.0, 0.0, 0.0), AXES)
    found = labels.copy()
    clean(found, grid, card, (), None, budget)
    parts = cc3d.connected_components((labels == 1) | (labels == 2), connectivity=connectivity)
    kept = (parts > 0) & np.isin(parts, np.unique(parts[labels == 2]))
    assert np.array_equal(found, np.where(labels == 255, 255, kept))


def test_memory_stays_within_the_budget(make_card):
    random = np.random.default_rng(0)
    blobs = ndimage.gaussian_filter(random.standard_normal((120, 160, 160), np.float32), 3) > 0
    labels, grid = blobs.astype(np.uint8), Grid((160, 160, 120), (1, 1, 1), (0, 0, 0), AXES)
    card = make_card(fill_holes=(1,), largest_component_of=(1,), smallest_mm3=10.0)
    budget = 4 * 2**20
    peaks = []
    for allowed in (budget, None):
        found = labels.copy()
        tracemalloc.start()
        clean(found, grid, card, budget=allowed)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert 0 < found.sum() < labels.size
    assert peaks[0] < budget < 3 * budget < peaks[1]


@settings(deadline=None)
@given(volumes([0, 1]), st.integers(1, 9))
def test_leaks_are_looked_for_in_the_same_voxels(labels, planes):
    root = postprocess._Root.of(
        sitk.GetImageFromArray((np.indices(labels.shape).sum(axis=0) < 3).astype(np.uint8))
    )
    assert root is not None
    there = root[slice(0, len(labels))]
    voxels = np.argwhere((labels == 1) | there)
    given: list[tuple[np.ndarray, np.ndarray]] = []

    def some(found: np.ndarray, rooted: np.ndarray, _: object) -> np.ndarray:
        given.append((found, rooted))
        return found.sum(axis=1) % 2 == 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postprocess, "leaks", some)
        cut = labels.copy()
        postprocess._cut_leaks(cut, root, (1.0, 1.0, 1.0), planes)
    assert np.array_equal(given[0][0], voxels)
    assert np.array_equal(given[0][1], there[tuple(voxels.T)])
    assert np.array_equal(cut, labels * (np.indices(labels.shape).sum(axis=0) % 2))
