"""Learning rates, budgets and plateaus."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbalanceseg.training.recipe import OptimizerChoice, Schedule
from imbalanceseg.training.schedule import Budget, Plateau, learning_rate

OPTIMIZER = OptimizerChoice(learning_rate=0.01)


def rate(schedule: Schedule, share: float, iteration: int = 100, plateau: float = 1.0) -> float:
    return learning_rate(OPTIMIZER, schedule, iteration, share, plateau)


def test_poly_is_that_of_nnunet():
    assert rate(Schedule(name="poly"), 0.25) == pytest.approx(0.01 * 0.75**0.9)


def test_cosine_goes_from_the_first_rate_to_nothing():
    schedule = Schedule(name="cosine")
    assert rate(schedule, 0.0) == pytest.approx(0.01)
    assert rate(schedule, 0.5) == pytest.approx(0.005)
    assert rate(schedule, 1.0) == pytest.approx(0.0)


def test_steps_fall_at_the_milestones():
    schedule = Schedule(name="steps", factor=0.1, milestones=(0.5, 0.9))
    assert [rate(schedule, share) for share in (0.4, 0.5, 0.95)] == pytest.approx(
        [0.01, 0.001, 0.0001]
    )


def test_warmup_rises_along_a_line():
    schedule = Schedule(name="constant", warmup=10)
    assert rate(schedule, 0, 0) == pytest.approx(0.001)
    assert rate(schedule, 0, 9) == pytest.approx(0.01)
    assert rate(schedule, 0, 50) == pytest.approx(0.01)


@given(st.sampled_from(["poly", "cosine", "steps", "constant"]), st.floats(0, 1), st.floats(0, 1))
def test_rates_never_rise(name, a, b):
    schedule = Schedule(name=name)
    early, late = sorted((a, b))
    assert 0 <= rate(schedule, late) <= rate(schedule, early) <= 0.01


def test_a_plateau_lowers_the_rate_after_its_patience():
    schedule = Schedule(name="plateau", patience=3, factor=0.2)
    plateau = Plateau()
    plateau.heard(1.0, schedule)
    assert plateau.best == 1.0
    for _ in range(3):
        assert plateau.factor == 1.0
        plateau.heard(1.0, schedule)
    assert plateau.factor == pytest.approx(0.2)


def test_a_falling_loss_is_no_plateau():
    schedule = Schedule(name="plateau", patience=3)
    plateau = Plateau()
    for number in range(50):
        plateau.heard(10.0 - 0.2 * number, schedule)
    assert plateau.factor == 1.0
    assert not math.isnan(plateau.average)


def test_a_budget_ends_with_whichever_comes_first():
    assert Budget(100, None).share(50, 1e9) == 0.5
    assert Budget(None, 60.0).share(10**9, 15.0) == 0.25
    assert Budget(100, 60.0).share(10, 30.0) == 0.5
    assert Budget(100, 60.0).share(1000, 30.0) == 1.0
