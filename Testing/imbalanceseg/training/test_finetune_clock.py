"""Time is kept by what steps have taken; the clock is the test's own."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest

from imbalanceseg.inference.segmentation import Segmentation
from imbalanceseg.training import finetune_rounds, finetune_run
from imbalanceseg.training.finetune import FineTuned, finetune
from imbalanceseg.training.finetune_clock import Previews, TimeBudget
from imbalanceseg.training.finetune_network import Begun, train_network
from imbalanceseg.training.patient import Patient

from . import painted as phantoms


class Clock:
    """Stands still but where something is said to take time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def slows(self, step: Any, seconds: float) -> Any:
        """The step, which takes so long."""

        def slow(*arguments: Any, **settings: Any) -> Any:
            found = step(*arguments, **settings)
            self.now += seconds
            return found

        return slow


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def test_a_budget_counts_all_runs(clock) -> None:
    budget = TimeBudget(60.0, 10.0)
    clock.now += 5
    budget.use(20.0)
    assert budget.used == 35
    # Three of the sixty seconds are kept back.
    assert budget.left == 22
    assert budget.allows(20.0, 2.0)
    assert not budget.allows(20.0, 3.0)


def test_what_a_step_takes_is_the_longest_of_the_last_three(clock) -> None:
    budget = TimeBudget(60.0)
    assert budget.expected("round", 3.0) == 3
    for seconds in (9.0, 2.0, 4.0, 3.0):
        with budget.timed("round"):
            clock.now += seconds
    assert budget.expected("round", 3.0) == 4


def test_a_step_that_fails_is_not_counted(clock) -> None:
    budget = TimeBudget(60.0)
    with pytest.raises(KeyError), budget.timed("round"):
        raise KeyError
    assert budget.expected("round", 3.0) == 3


def test_previews_are_spread_over_the_time(clock) -> None:
    budget = TimeBudget(100.0)
    shown: list[float] = []

    def show(_: object) -> None:
        shown.append(clock.now - 1000)
        clock.now += 3

    previews = Previews(show, budget)  # type: ignore[arg-type]
    assert not previews.due(16.0)
    while budget.used < 200:
        if previews.due(3.0):
            previews.show(lambda: None)  # type: ignore[arg-type, return-value]
        else:
            clock.now += 1
    assert shown[0] == 0
    assert all(later - sooner > 15 for sooner, later in pairwise(shown))
    assert previews.spent == 15


def test_nobody_to_show_it_to_costs_nothing() -> None:
    assert not Previews(None, TimeBudget(100.0)).due(0.0)


def adapted(
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    teach: float,
    restore: float,
    depth: str = "head",
    shown: list[Segmentation] | None = None,
) -> tuple[FineTuned, float]:
    """With every classifier's training and every restored segmentation taking so long."""

    def quick(step: Any) -> Any:
        def taught(*arguments: Any, **settings: Any) -> None:
            step(*arguments, **settings | {"steps": 2})

        return taught

    def network(net: Any, painted: Any, **settings: Any) -> Begun:
        settings["told"] = clock.slows(settings["told"], teach)
        return train_network(net, painted, **settings)

    monkeypatch.setattr(finetune_rounds, "FOREGROUND_TO_JUDGE_BY", 20)
    monkeypatch.setattr(finetune_rounds, "teach", clock.slows(quick(finetune_rounds.teach), teach))
    monkeypatch.setattr(finetune_run, "train_network", network)
    for name, took in (("segmentation", restore), ("look", restore), ("__init__", restore)):
        monkeypatch.setattr(Patient, name, clock.slows(getattr(Patient, name), took))
    scan, truth = phantoms.phantom()
    annotation = phantoms.painted(truth, (4, 9, 14, 19))
    begun = clock.now
    tuned = finetune(
        scan, annotation, None, depth, seconds, device="cpu", memory_gb=2.0,
        preview=None if shown is None else shown.append,
    )  # fmt: skip
    return tuned, clock.now - begun


@pytest.mark.parametrize("shows", [False, True])
@pytest.mark.parametrize(("teach", "restore"), [(0.5, 0.5), (1.0, 4.0), (2.5, 1.0), (4.0, 0.2)])
def test_the_time_is_kept(clock, monkeypatch, teach, restore, shows) -> None:
    shown: list[Segmentation] | None = [] if shows else None
    tuned, took = adapted(clock, monkeypatch, 60.0, teach, restore, shown=shown)
    assert took <= 66
    assert 1 <= len(tuned.model.network.head.rounds) <= 5
    if shown is not None:
        assert len(shown) * restore <= 0.15 * 60 + restore


def test_where_time_is_short_nothing_is_judged_but_all_is_taught(clock, monkeypatch) -> None:
    tuned, took = adapted(clock, monkeypatch, 34.0, 2.0, 1.0)
    assert took <= 34 * 1.1
    assert len(tuned.model.network.head.rounds) == 5
    assert tuned.model.card.adaptation.held_out_dice is None


def test_where_there_is_time_the_slice_is_asked(clock, monkeypatch) -> None:
    tuned, _ = adapted(clock, monkeypatch, 60.0, 2.0, 1.0)
    assert tuned.model.card.adaptation.held_out_dice is not None


@pytest.mark.slow
def test_the_time_is_kept_where_the_network_is_trained(clock, monkeypatch) -> None:
    shown: list[Segmentation] = []
    _, took = adapted(clock, monkeypatch, 120.0, 6.0, 1.0, "all", shown)
    assert took <= 132
    assert shown
