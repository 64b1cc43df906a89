"""Only the largest component, and only where that helps."""

from __future__ import annotations

import numpy as np

from imbalanceseg.training.postprocessing import keep_largest, largest_component_helps


def scene() -> np.ndarray:
    label = np.zeros((12, 12, 12), np.uint8)
    label[1:6, 1:6, 1:6] = 1
    label[7:10, 7:10, 7:10] = 2
    return label


def test_a_false_speck_makes_it_help_for_its_class_alone():
    label, prediction = scene(), scene()
    prediction[11, 0, 0] = 1
    assert largest_component_helps([prediction], [label], 2) == (1,)


def test_a_class_in_two_parts_is_left_alone():
    label = scene()
    label[11, 9:12, 0:3] = 1
    assert largest_component_helps([label.copy()], [label], 2) == ()


def test_nothing_held_out_chooses_nothing():
    assert largest_component_helps([], [], 2) == ()


def test_a_class_that_is_nowhere_chooses_nothing():
    empty = np.zeros((4, 4), np.uint8)
    assert largest_component_helps([empty], [empty], 1) == ()


def test_the_largest_part_of_each_class_is_kept():
    found = scene()
    found[11, 0, 0], found[11, 11, 11] = 1, 2
    assert np.array_equal(keep_largest(found, (1, 2)), scene())
    only_one = keep_largest(found, (1,))
    assert only_one[11, 0, 0] == 0
    assert only_one[11, 11, 11] == 2
