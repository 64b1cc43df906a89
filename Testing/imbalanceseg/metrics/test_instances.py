"""Instances counted by hand, and the identities of matching."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imbalanceseg.errors import DependencyError, InputError
from imbalanceseg.metrics.instances import Match, connected_instances, instance_score

pytest.importorskip("panoptica")

SPACING = (2.0, 1.0, 1.0)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Three lesions: the large one overlaps well, the middle one barely, the small one not."""
    reference, prediction = np.zeros((20, 20, 20), bool), np.zeros((20, 20, 20), bool)
    reference[2:6, 2:6, 2:6] = True
    prediction[2:6, 2:6, 3:7] = True
    reference[10:12, 10:12, 10:12] = True
    prediction[11:13, 11:13, 11:13] = True
    reference[15, 15, 15] = True
    prediction[0, 0, 19] = True
    return connected_instances(prediction), connected_instances(reference)


def test_counted_by_hand() -> None:
    touching = instance_score(*scene(), SPACING)
    assert (touching.found_count, touching.prediction_count, touching.reference_count) == (2, 3, 3)
    assert touching.f1 == touching.sensitivity == touching.precision == pytest.approx(2 / 3)
    half = instance_score(*scene(), SPACING, Match.HALF)
    assert half.found_count == 1
    assert half.f1 == pytest.approx(1 / 3)


def test_strata_hold_the_reference_by_its_size_in_mm3() -> None:
    score = instance_score(*scene(), SPACING, size_edges=(10, 50))
    # 1, 8 and 64 voxels of 2 mm3
    assert [(s.reference_count, s.found_count) for s in score.strata] == [(1, 0), (1, 1), (1, 1)]
    assert [s.sensitivity for s in score.strata] == [0.0, 1.0, 1.0]
    assert [(s.low, s.high) for s in score.strata] == [(0, 10), (10, 50), (50, np.inf)]
    empty = instance_score(*scene(), SPACING, size_edges=(0.5,)).strata[0]
    assert empty.reference_count == 0
    assert np.isnan(empty.sensitivity)


def test_a_size_on_the_edge_belongs_to_the_larger_stratum() -> None:
    reference = np.zeros((4, 4, 4), int)
    reference[0, 0, :2] = 1
    strata = instance_score(reference, reference, (1, 1, 1), size_edges=(2,)).strata
    assert [s.reference_count for s in strata] == [0, 1]
    assert [s.found_count for s in strata] == [0, 1]


def test_one_prediction_over_two_lesions_finds_one_of_them() -> None:
    reference = np.zeros((3, 3, 9), int)
    reference[1, 1, 1:4], reference[1, 1, 5:8] = 1, 2
    bridge = np.zeros_like(reference)
    bridge[1, 1, 1:8] = 1
    score = instance_score(bridge, reference, (1, 1, 1))
    assert (score.found_count, score.precision, score.sensitivity) == (1, 1.0, 0.5)


def test_instances_that_touch_stay_apart_when_numbered() -> None:
    """Nuclei: instance labels are kept, not merged into components."""
    nuclei = np.zeros((6, 8), int)
    nuclei[1:5, 1:4], nuclei[1:5, 4:7] = 1, 2
    score = instance_score(nuclei, nuclei, (1, 1))
    assert (score.found_count, score.reference_count) == (2, 2)
    assert connected_instances(nuclei > 0).max() == 1


def test_nothing_to_find_is_found_and_nothing_found_is_not() -> None:
    lesions, nothing = np.zeros((2, 5, 5, 5), int)
    lesions[2, 2, 2] = 1
    assert instance_score(nothing, nothing, (1, 1, 1)).f1 == 1.0
    for pair in ((lesions, nothing), (nothing, lesions)):
        score = instance_score(*pair, (1, 1, 1))
        assert score.f1 == score.sensitivity == score.precision == 0.0


@settings(max_examples=25, deadline=None)
@given(*(arrays(np.bool_, (5, 6, 7), elements=st.booleans()) for _ in range(2)))
def test_identities(first: np.ndarray, second: np.ndarray) -> None:
    a, b = connected_instances(first), connected_instances(second)
    there, back = instance_score(a, b, SPACING), instance_score(b, a, SPACING)
    assert there.f1 == pytest.approx(back.f1)
    assert there.precision == pytest.approx(back.sensitivity)
    assert instance_score(a, b, SPACING, Match.HALF).found_count <= there.found_count
    assert instance_score(a, a, SPACING).f1 == 1.0
    assert sum(s.reference_count for s in there.strata) == there.reference_count
    renumbered = np.where(b > 0, b.max() + 1 - b, 0)
    assert instance_score(a, renumbered, SPACING) == there


def test_wrong_arguments_are_refused() -> None:
    lesions = np.ones((3, 3, 3), int)
    with pytest.raises(InputError, match="shape"):
        instance_score(lesions, lesions[:2], (1, 1, 1))
    for edges in ((0,), (5, 5), (5, 2), (-1,), (float("nan"),)):
        with pytest.raises(InputError, match="ascend"):
            instance_score(lesions, lesions, (1, 1, 1), size_edges=edges)


def test_without_panoptica_the_user_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith("panoptica"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    lesions = np.ones((3, 3, 3), int)
    with pytest.raises(DependencyError, match="not installed") as caught:
        instance_score(lesions, lesions, (1, 1, 1))
    assert "imbalanceseg[instances]" in caught.value.hint


def test_nothing_is_printed_where_a_program_reads(capsys: pytest.CaptureFixture[str]) -> None:
    instance_score(*scene(), SPACING)
    assert capsys.readouterr().out == ""
