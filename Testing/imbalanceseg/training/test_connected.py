"""Connection as evidence: where it decides, where it must not, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.training import connected
from imbalanceseg.training.connected import Connection, connection_seconds, with_connection
from imbalanceseg.training.finetune import finetune
from imbalanceseg.training.finetune_clock import TimeBudget

from . import painted as phantoms

ALIKE = (1.0, 1.0, 1.0)
SHAPE = (12, 16, 16)


def two_rods() -> tuple[Tensor, Tensor]:
    """Two rods of one brightness, the first of which is painted in two slices."""
    values = torch.zeros(1, *SHAPE)
    values[:, :, 3:6, 3:6] = values[:, :, 10:13, 10:13] = 1.0
    labels = torch.full(SHAPE, UNLABELLED, dtype=torch.uint8)
    for z in (2, 9):
        labels[z] = 0
        labels[z, 3:6, 3:6] = 1
    return values, labels


def said(odds: float) -> Tensor:
    """A head that says the same everywhere, of two channels."""
    p = torch.sigmoid(torch.tensor(odds))
    return torch.stack([1 - p, p])[:, None, None, None].expand(2, *SHAPE).clone()


def test_where_the_head_does_not_know_it_grows_from_what_was_painted() -> None:
    values, labels = two_rods()
    found = with_connection(said(0.0), values, labels, ALIKE).argmax(0)
    assert found[5, 4, 4] == 1
    assert found[5, 11, 11] == 0
    assert found[5, 8, 8] == 0


def test_a_piece_that_no_slice_shows_stays_where_the_head_is_sure() -> None:
    values = torch.zeros(1, *SHAPE)
    values[:, :, 3:6, 3:6] = values[:, 5:7, 10:13, 10:13] = 1.0
    _, labels = two_rods()
    sure, unsure = (with_connection(said(x), values, labels, ALIKE) for x in (5.0, 1.0))
    assert sure[1, 5, 11, 11] > 0.5
    assert unsure[1, 5, 11, 11] < 0.5


def test_one_channel_says_what_two_say() -> None:
    values, labels = two_rods()
    two = said(-0.4)
    one = with_connection(two[1:], values, labels, ALIKE)
    assert torch.allclose(one[0], with_connection(two, values, labels, ALIKE)[1], atol=1e-5)


def test_a_class_that_was_not_painted_keeps_its_odds() -> None:
    values, labels = two_rods()
    draw = torch.Generator().manual_seed(0)
    before = torch.softmax(torch.rand(3, *SHAPE, generator=draw), 0)
    after = with_connection(before, values, labels, ALIKE)
    assert torch.allclose(after[2] / after[0], before[2] / before[0], rtol=1e-3)
    assert not torch.allclose(after[1], before[1], atol=0.01)


def test_without_background_or_foreground_nothing_changes() -> None:
    values, labels = two_rods()
    found = said(0.3)
    for gone in (0, 1):
        less = torch.where(labels == gone, UNLABELLED, labels)
        assert with_connection(found, values, less, ALIKE) is found


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.1, 100), st.floats(-10, 10))
def test_any_scan_gives_probabilities_whatever_its_unit(
    seed: int, factor: float, shift: float
) -> None:
    draw = np.random.default_rng(seed)
    values = torch.from_numpy(draw.standard_normal((2, 5, 6, 7)).astype(np.float32))
    labels = torch.from_numpy(draw.choice([0, 1, 2, 255], (5, 6, 7)).astype(np.uint8))
    before = torch.softmax(torch.from_numpy(draw.standard_normal((3, 5, 6, 7))).float() * 9, 0)
    found = with_connection(before, values, labels, (2.0, 1.0, 0.5))
    assert torch.allclose(found.sum(0), torch.ones(5, 6, 7), atol=1e-5)
    assert bool((found >= 0).all())
    again = with_connection(before, values * factor + shift, labels, (2.0, 1.0, 0.5))
    assert torch.allclose(again, found, atol=0.05)


class Seen:
    """What a connection asks of a patient."""

    def __init__(self, values: Tensor, seen: Tensor | None = None) -> None:
        self.volume, self.seen, self.spacing_mm = values[None], seen, ALIKE


def annotation(slices: int, classes: tuple[int, ...] | None = None) -> Annotation:
    made = phantoms.painted(phantoms.phantom()[1], (6, 13, 20)[:slices])
    made.classes = classes
    return made


@pytest.mark.parametrize(
    ("slices", "classes", "seconds", "has_network", "counts"),
    [
        (2, None, 600.0, False, True),
        (1, None, 600.0, False, False),
        (2, (1,), 600.0, False, False),
        (2, None, 1e-3, False, False),
        (2, None, 600.0, True, False),
    ],
)
def test_it_counts_where_enough_is_known(slices, classes, seconds, has_network, counts) -> None:
    values, labels = two_rods()
    patient = Seen(values, torch.zeros(1) if has_network else None)
    budget = TimeBudget(seconds)
    connection = Connection(patient, labels, annotation(slices, classes), budget)  # type: ignore[arg-type]
    found = said(0.0)
    assert (connection.counted(found) is not found) == counts
    assert (budget.expected("connect") > 0) == counts


def test_what_it_will_take_grows_with_the_scan() -> None:
    values, labels = two_rods()
    small = min(connection_seconds(values, labels, ALIKE) for _ in range(3))
    labels = labels.repeat(8, 8, 8)
    large = min(connection_seconds(values.repeat(1, 8, 8, 8), labels, ALIKE) for _ in range(3))
    assert large > 10 * small


def test_the_child_says_what_it_would_say_without(monkeypatch) -> None:
    """It is evidence about the slices of this scan, which a network of the image does not have."""
    scan, truth = phantoms.phantom()
    made = phantoms.painted(truth)
    settings = {"seconds": 600.0, "iterations": 20, "device": "cpu", "memory_gb": 2.0}
    tuned = finetune(scan, made, depth="head", **settings)
    monkeypatch.setattr(connected, "_LEAST_SLICES", 99)
    plain = finetune(scan, made, depth="head", **settings)
    for name, weights in plain.model.network.state_dict().items():
        assert torch.equal(weights, tuned.model.network.state_dict()[name])
    assert tuned.segmentation.probability is not None
    assert plain.segmentation.probability is not None
