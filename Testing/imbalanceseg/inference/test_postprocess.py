from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Callable

import cc3d
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.inference import postprocess
from imbalanceseg.inference.postprocess import STEPS, cleaned_labels, labelmap_from_probability
from imbalanceseg.models.card import ModelCard

GRID = Grid((40, 30, 20), (0.8, 0.7, 1.5), (3.0, -4.0, 5.0), (0, 1, 0, 1, 0, 0, 0, 0, -1))
LARGE = (slice(8, 14), slice(10, 20), slice(20, 36))
SMALL = (slice(2, 5), slice(4, 8), slice(4, 9))
ROOT = (slice(5, 20), slice(4, 8), slice(4, 8))


def image(array: np.ndarray) -> sitk.Image:
    return image_from_array(array, GRID)


@pytest.fixture
def card(dark_model) -> Callable[..., ModelCard]:
    """The card of a model, with changes."""
    return lambda **changes: dark_model.card.model_copy(update=changes)


@pytest.fixture
def probability() -> sitk.Image:
    values = np.zeros(GRID.size[::-1], np.float32)
    values[LARGE], values[SMALL] = 0.6, 0.9
    return image(values)


@pytest.fixture
def scan() -> sitk.Image:
    return image(np.zeros(GRID.size[::-1], np.int16))


@pytest.fixture
def trachea(monkeypatch) -> None:
    mask = np.zeros(GRID.size[::-1], np.uint8)
    mask[ROOT] = 1
    monkeypatch.setattr(postprocess, "tracheal_column", lambda scan: image(mask))


def filled(*boxes: tuple[slice, ...]) -> np.ndarray:
    expected = np.zeros(GRID.size[::-1], np.uint8)
    for box in boxes:
        expected[box] = 1
    return expected


def test_the_labelmap_is_what_exceeds_the_threshold_on_the_same_grid(probability, scan, card):
    result = labelmap_from_probability(probability, scan, card(threshold=0.5))
    assert np.array_equal(sitk.GetArrayFromImage(result), filled(LARGE, SMALL))
    assert result.GetPixelID() == sitk.sitkUInt8
    assert Grid.of(result) == GRID


def test_a_given_threshold_stands_instead_of_the_cards(probability, scan, card):
    result = labelmap_from_probability(probability, scan, card(threshold=0.5), 0.7)
    assert np.array_equal(sitk.GetArrayFromImage(result), filled(SMALL))


def test_only_the_largest_component_stays_where_the_card_asks_for_it(probability, scan, card):
    asked = card(threshold=0.5, largest_component_of=(1,))
    result = labelmap_from_probability(probability, scan, asked)
    assert np.array_equal(sitk.GetArrayFromImage(result), filled(LARGE))


@pytest.mark.usefixtures("trachea")
def test_what_touches_the_trachea_stays_with_the_trachea_however_small(probability, scan, card):
    asked = card(threshold=0.5, root="trachea", largest_component_of=(1,))
    result = labelmap_from_probability(probability, scan, asked)
    assert np.array_equal(sitk.GetArrayFromImage(result), filled(SMALL, ROOT))


def test_without_a_trachea_in_the_scan_the_largest_component_stays(probability, scan, card):
    asked = card(threshold=0.5, root="trachea", largest_component_of=(1,))
    result = labelmap_from_probability(probability, scan, asked)
    assert np.array_equal(sitk.GetArrayFromImage(result), filled(LARGE))


def test_nothing_found_is_an_empty_labelmap(probability, scan, card):
    asked = card(threshold=0.95, largest_component_of=(1,))
    assert not sitk.GetArrayFromImage(labelmap_from_probability(probability, scan, asked)).any()


def labels_of(array: np.ndarray) -> sitk.Image:
    """A labelmap with voxels of 2 mm3 on oblique axes."""
    oblique = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
    return image_from_array(
        array.astype(np.uint8), Grid(array.shape[::-1], (0.5, 1.0, 4.0), (1.0, 2.0, 3.0), oblique)
    )


def cleaned(array: np.ndarray, card: ModelCard, *without: str) -> np.ndarray:
    """The labels that are left, after a look at where they lie."""
    before = labels_of(array)
    after = cleaned_labels(before, card, without)
    assert Grid.of(after) == Grid.of(before)
    assert after.GetPixelID() == sitk.sitkUInt8
    return sitk.GetArrayFromImage(after)


@pytest.fixture
def two(card) -> Callable[..., ModelCard]:
    """The card of a model of two segments, with changes."""
    segments = card().segments
    pair = (segments[0], dataclasses.replace(segments[0], label=2, name="Core"))
    return lambda **changes: card(segments=pair, **changes)


@pytest.fixture
def shell() -> np.ndarray:
    """A box of 1 around a box of 2, each hollow, and some voxels that nobody has looked at."""
    array = np.zeros((12, 12, 12), np.uint8)
    array[1:10, 1:10, 1:10], array[2:9, 2:9, 2:9] = 1, 0
    array[4:7, 4:7, 4:7], array[5, 5, 5] = 2, 0
    array[2, 2, 2] = array[11, 11, 11] = 255
    return array


class TestFillHoles:
    def test_a_hole_goes_to_the_label_around_it(self, shell, two):
        expected = shell.copy()
        expected[5, 5, 5] = 2
        expected[1:10, 1:10, 1:10][expected[1:10, 1:10, 1:10] == 0] = 1
        assert np.array_equal(cleaned(shell, two(fill_holes=(2, 1))), expected)
        # The label that comes first takes what it encloses, whatever lies between.
        expected[5, 5, 5] = 1
        assert np.array_equal(cleaned(shell, two(fill_holes=(1, 2))), expected)

    def test_other_labels_keep_their_holes(self, shell, two):
        expected = shell.copy()
        expected[5, 5, 5] = 2
        assert np.array_equal(cleaned(shell, two(fill_holes=(2,))), expected)

    def test_what_opens_to_the_outside_is_no_hole(self, shell, card):
        shell[1, 5, 5] = 0
        assert np.array_equal(cleaned(shell, card(fill_holes=(1,))), shell)
        at_border = np.ones((3, 4, 5), np.uint8)
        at_border[1:, 1:3, 1:4] = 0
        assert np.array_equal(cleaned(at_border, card(fill_holes=(1,))), at_border)

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_a_single_slice_has_its_holes_in_its_plane(self, axis, card):
        ring = np.ones((3, 4), np.uint8)
        ring[1, 1:3] = 0
        picture = np.expand_dims(np.pad(ring, 2), axis)
        assert cleaned(picture, card(fill_holes=(1,))).sum() == 12
        # A ring in a volume is open to both sides.
        volume = np.concatenate([picture, np.zeros_like(picture)], axis)
        assert np.array_equal(cleaned(volume, card(fill_holes=(1,))), volume)
        row = np.zeros((1, 1, 5), np.uint8)
        row[0, 0, [1, 3]] = 1
        assert np.array_equal(cleaned(row, card(fill_holes=(1,))), row)

    @settings(deadline=None, max_examples=50)
    @given(arrays(bool, (5, 5, 5), elements=st.sampled_from([True, True, True, False])))
    def test_it_is_what_scipy_fills(self, make_card, mask):
        filled = cleaned(mask, make_card(fill_holes=(1,)))
        assert np.array_equal(filled > 0, ndimage.binary_fill_holes(mask))


class TestHysteresis:
    def test_a_component_is_kept_whole_where_it_is_certain_somewhere(self, probability, scan, card):
        values = sitk.GetArrayFromImage(probability)
        values[LARGE][:1, :1, :1] = 0.95
        asked = card(threshold=0.5, high_threshold=0.92)
        result = labelmap_from_probability(image(values), scan, asked)
        assert np.array_equal(sitk.GetArrayFromImage(result), filled(LARGE))
        assert Grid.of(result) == GRID

    def test_left_out_it_is_the_threshold_alone(self, probability, scan, card):
        asked = card(threshold=0.5, high_threshold=0.8)
        for without, expected in (((), filled(SMALL)), (("hysteresis",), filled(LARGE, SMALL))):
            result = labelmap_from_probability(probability, scan, asked, without=without)
            assert np.array_equal(sitk.GetArrayFromImage(result), expected)

    def test_another_threshold_may_lie_above_the_high_one(self, probability, scan, card):
        asked = card(threshold=0.3, high_threshold=0.5)
        result = labelmap_from_probability(probability, scan, asked, threshold=0.7)
        assert np.array_equal(sitk.GetArrayFromImage(result), filled(SMALL))

    @settings(deadline=None, max_examples=60)
    @given(
        arrays(np.float32, (6, 7, 8), elements=st.floats(0, 1, width=32)),
        # of single precision, in which probabilities are compared; scikit-image compares in double
        st.floats(0.125, 0.5, width=32),
        st.floats(0.5625, 0.875, width=32),
    )
    def test_it_is_that_of_scikit_image(self, make_card, values, low, high):
        grid = Grid((8, 7, 6), (0.8, 0.7, 1.5), (3.0, -4.0, 5.0), GRID.direction)
        asked = make_card(threshold=low, high_threshold=high)
        said = image_from_array(values, grid)
        result = labelmap_from_probability(said, said, asked)
        expected = apply_hysteresis_threshold(values, low, high)
        assert np.array_equal(sitk.GetArrayFromImage(result), expected)

    def test_corners_hold_together_where_the_card_says_so(self, make_card):
        values = np.zeros((3, 3, 3), np.float32)
        values[0, 0, 0], values[1, 1, 1] = 0.6, 0.9
        grid = Grid((3, 3, 3), (1, 1, 1), (0, 0, 0), GRID.direction)
        said = image_from_array(values, grid)
        for connectivity, left in ((6, 1), (26, 2)):
            asked = make_card(high_threshold=0.8, connectivity=connectivity)
            result = labelmap_from_probability(said, said, asked)
            assert sitk.GetArrayFromImage(result).sum() == left


class TestSmall:
    @pytest.mark.parametrize(("smallest", "left"), [(5.9, 2), (6.0, 2), (6.1, 1), (99.0, 0)])
    def test_components_below_the_size_in_mm3_go(self, smallest, left, card):
        array = np.zeros((4, 6, 8), np.uint8)
        array[0, 0, :3], array[2, 2:4, :2] = 1, 1
        result = cleaned(array, card(smallest_mm3=smallest))
        assert cc3d.connected_components(result).max() == left
        assert not result[array == 0].any()

    def test_components_of_two_labels_are_never_one(self, two):
        array = np.zeros((3, 3, 6), np.uint8)
        array[1, 1, :3], array[1, 1, 3:5] = 1, 2
        result = cleaned(array, two(smallest_mm3=6.0))
        assert np.array_equal(result, np.where(array == 1, 1, 0))

    @pytest.mark.parametrize(("connectivity", "left"), [(6, 0), (26, 4)])
    def test_the_card_says_what_hangs_together(self, connectivity, left, card):
        array = np.zeros((3, 3, 6), np.uint8)
        array[1, 1, :2], array[1, 2, 2:4] = 1, 1
        assert cleaned(array, card(smallest_mm3=8.0, connectivity=connectivity)).sum() == left

    def test_unlabelled_voxels_stay_and_join_nothing(self, card):
        array = np.zeros((3, 3, 6), np.uint8)
        array[1, 1] = (1, 255, 1, 0, 0, 255)
        result = cleaned(array, card(smallest_mm3=4.0))
        assert np.array_equal(result, np.where(array == 255, 255, 0))


@pytest.mark.usefixtures("trachea")
class TestCutLeaks:
    @pytest.fixture
    def asked(self, card) -> ModelCard:
        return card(threshold=0.5, root="trachea", cut_leaks=True)

    @pytest.fixture
    def seen(self, monkeypatch) -> list[tuple[np.ndarray, ...]]:
        """What the search for leaks is given; it takes everything for one."""
        calls: list[tuple[np.ndarray, ...]] = []

        def everything(voxels, root, spacing_mm):
            calls.append((voxels, root, spacing_mm))
            return ~root

        monkeypatch.setattr(postprocess, "leaks", everything)
        return calls

    def test_a_leak_goes_before_it_is_asked_what_hangs_on_the_root(
        self, probability, scan, asked, seen
    ):
        result = labelmap_from_probability(probability, scan, asked)
        assert np.array_equal(sitk.GetArrayFromImage(result), filled(ROOT))
        ((voxels, root, spacing_mm),) = seen
        assert spacing_mm == (1.5, 0.7, 0.8)
        # Within the box around both boxes and the root
        corner = (2, 4, 4)
        assert np.array_equal(voxels + corner, np.argwhere(filled(LARGE, SMALL, ROOT)))
        assert np.array_equal(voxels[root] + corner, np.argwhere(filled(ROOT)))

    def test_the_caller_can_leave_it_out(self, probability, scan, asked, seen):
        result = labelmap_from_probability(probability, scan, asked, without=("cut_leaks",))
        assert np.array_equal(sitk.GetArrayFromImage(result), filled(SMALL, ROOT))
        assert not seen

    def test_without_the_largest_the_root_is_not_added(self, probability, scan, asked, seen):
        result = labelmap_from_probability(probability, scan, asked, without=("largest",))
        kept = filled(SMALL) & filled(ROOT)
        assert np.array_equal(sitk.GetArrayFromImage(result), kept)
        assert seen

    def test_without_a_root_nothing_is_cut(self, probability, scan, asked, seen, monkeypatch):
        monkeypatch.setattr(postprocess, "tracheal_column", lambda scan: None)
        result = labelmap_from_probability(probability, scan, asked)
        assert np.array_equal(sitk.GetArrayFromImage(result), filled(LARGE, SMALL))
        assert not seen


def test_no_root_is_looked_for_in_vain(probability, scan, card, monkeypatch):
    monkeypatch.setattr(postprocess, "tracheal_column", lambda scan: pytest.fail("looked for"))
    asked = card(threshold=0.5, root="trachea", cut_leaks=True, smallest_mm3=1.0)
    labelmap_from_probability(probability, scan, asked, without=("cut_leaks", "largest"))


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_is_left_out_is_not_taken(step, shell, two):
    shell[0, 0, 0] = 1
    everything = two(fill_holes=(2, 1), largest_component_of=(1,), smallest_mm3=20.0)
    off = {
        "hysteresis": {"high_threshold": None},
        "fill_holes": {"fill_holes": ()},
        "cut_leaks": {"cut_leaks": False},
        "largest": {"largest_component_of": ()},
        "small": {"smallest_mm3": 0.0},
    }
    expected = cleaned(shell, everything.model_copy(update=off[step]))
    assert np.array_equal(cleaned(shell, everything, step), expected)
    assert np.array_equal(cleaned(shell, everything, *STEPS), shell)


def test_an_unknown_step_is_told_with_the_names_there_are(probability, scan, card):
    for call in (
        lambda: cleaned_labels(probability, card(), without=("holes",)),
        lambda: labelmap_from_probability(probability, scan, card(), without=("small", "holes")),
    ):
        with pytest.raises(InputError, match="holes") as caught:
            call()
        assert caught.value.code == "step-unknown"
        assert all(step in caught.value.hint for step in STEPS)


def test_empty_labels_and_a_single_voxel_go_through_all_steps(card):
    asked = card(fill_holes=(1,), largest_component_of=(1,), smallest_mm3=1.0)
    empty = np.zeros((3, 4, 5), np.uint8)
    assert not cleaned(empty, asked).any()
    for shape in ((3, 4, 5), (1, 4, 5), (1, 1, 1)):
        single = np.zeros(shape, np.uint8)
        single.flat[-1] = 1
        assert np.array_equal(cleaned(single, asked), single)
    assert np.array_equal(cleaned(np.full((3, 4, 5), 255), asked), np.full((3, 4, 5), 255))


def test_memory_follows_the_structure_not_the_scan(card):
    array = np.zeros((160, 240, 240), np.uint8)
    array[50:60, 100:120, 100:120] = 1
    array[0, 0, 0] = 255
    labels = image_from_array(array, Grid(array.shape[::-1], (1, 1, 1), (0, 0, 0), GRID.direction))
    asked = card(fill_holes=(1,), largest_component_of=(1,), smallest_mm3=10.0)
    tracemalloc.start()
    cleaned_labels(labels, asked)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.2 * array.size
