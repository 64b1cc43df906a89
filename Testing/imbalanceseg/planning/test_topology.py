"""The rules of nnU-Net, where their outcome is known or can be derived."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalanceseg.networks import create_network
from imbalanceseg.planning.topology import (
    EARLY_RULES_3D,
    RULES_2D,
    RULES_3D,
    batch_size,
    median_shape,
    plan_topology,
    target_spacing,
)

NNUNET = json.loads((Path(__file__).parent / "nnunet_plans.json").read_text("utf-8"))


def test_isotropic_128_is_halved_five_times_down_to_four() -> None:
    topology = plan_topology((1, 1, 1), (128, 128, 128), 2, RULES_3D)
    assert topology.patch == (128, 128, 128)
    assert topology.poolings == (5, 5, 5)
    assert topology.features == (32, 64, 128, 256, 320, 320)
    assert set(topology.kernels) == {(3, 3, 3)}


def test_the_first_rules_have_thirty_features_and_halve_down_to_four() -> None:
    topology = plan_topology((1, 1, 1), (128, 128, 128), 2, EARLY_RULES_3D)
    assert topology.features == (30, 60, 120, 240, 320, 320)
    assert topology.poolings == (5, 5, 5)
    assert plan_topology((1, 1, 1), (9, 6, 6), 2, EARLY_RULES_3D).poolings == (1, 0, 0)
    assert plan_topology((1, 1, 1), (9, 6, 6), 2, RULES_3D).poolings == (0, 0, 0)


def test_thick_slices_are_first_looked_at_one_by_one() -> None:
    topology = plan_topology((5, 0.8, 0.8), (100, 512, 512), 2, RULES_3D)
    # 5 mm is within twice the plane's spacing from 3.2 mm on, that is after two halvings.
    assert topology.kernels[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))
    assert topology.strides[:3] == ((1, 1, 1), (1, 2, 2), (1, 2, 2))
    assert topology.kernels[-1] == (3, 3, 3)


@pytest.mark.parametrize(
    ("spacing", "shape", "classes", "patch"),
    [
        ((1, 1, 1), (36, 50, 35), 3, (40, 56, 40)),
        ((3.6, 0.62, 0.62), (20, 320, 319), 3, (20, 320, 256)),
        ((1, 1, 1), (140, 171, 137), 4, (128, 128, 128)),
    ],
    ids=["hippocampus", "prostate", "brain"],
)
def test_patches_are_those_that_nnunet_is_known_to_plan(spacing, shape, classes, patch) -> None:
    assert plan_topology(spacing, shape, classes, RULES_3D).patch == patch


@pytest.mark.parametrize("row", NNUNET, ids=lambda row: "x".join(map(str, row["shape"])))
def test_plans_are_those_of_nnunet_2_8_1(row) -> None:
    """Asked by Testing/Benchmarks/nnunet_plans.py."""
    rules = RULES_2D if len(row["shape"]) == 2 else RULES_3D
    found = plan_topology(row["spacing"], row["shape"], row["classes"], rules)
    for name in ("patch", "strides", "kernels", "features"):
        assert np.array_equal(getattr(found, name), row[name])
    assert batch_size(found, row["classes"], rules, row["voxels"]) == row["batch"]


def test_a_batch_is_five_per_cent_of_the_voxels_and_at_least_two() -> None:
    topology = plan_topology((1, 1, 1), (36, 50, 35), 3, RULES_3D)
    case = 36 * 50 * 35
    assert batch_size(topology, 3, RULES_3D, 260 * case) == 9
    assert batch_size(topology, 3, RULES_3D, 10 * case) == 2
    large = plan_topology((1, 1, 1), (400, 400, 400), 2, RULES_3D)
    assert batch_size(large, 2, RULES_3D, 1e12) == 2


def test_more_memory_allows_a_larger_patch() -> None:
    small, large = (
        plan_topology((1, 1, 1), (300, 300, 300), 2, RULES_3D, memory_gb) for memory_gb in (4, 24)
    )
    assert prod(small.patch) < prod(large.patch)


def test_the_target_is_the_median_spacing() -> None:
    spacings = [(1.0, 0.5, 0.5), (1.2, 0.7, 0.6), (3.0, 0.6, 0.7)]
    assert target_spacing(spacings, [(100, 200, 200)] * 3) == (1.2, 0.6, 0.6)


def test_thick_slices_take_the_tenth_percentile_when_there_are_few() -> None:
    spacings = [(z, 0.5, 0.5) for z in (3.0, 4.0, 5.0, 6.0, 7.0)]
    few = target_spacing(spacings, [(20, 300, 300)] * 5)
    assert few == pytest.approx((3.4, 0.5, 0.5))
    many = target_spacing(spacings, [(200, 300, 300)] * 5)
    assert many == (5.0, 0.5, 0.5)
    mixed = [(z, 0.5, 0.5) for z in (0.1, 0.1, 5.0, 6.0, 7.0)]
    assert target_spacing(mixed, [(20, 300, 300)] * 5)[0] == pytest.approx(0.5, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.floats(0.3, 8.0)] * 3),
    st.tuples(*[st.integers(1, 400)] * 3),
    st.integers(2, 8),
)
def test_every_plan_is_a_network_that_fits(spacing, shape, classes) -> None:
    topology = plan_topology(spacing, shape, classes, RULES_3D)
    divisor = [prod(s) for s in zip(*topology.strides, strict=True)]
    assert all(n % d == 0 for n, d in zip(topology.patch, divisor, strict=True))
    assert all(n // d >= 1 for n, d in zip(topology.patch, divisor, strict=True))
    assert topology.feature_elements(classes) <= RULES_3D.reference_elements
    assert len(topology.strides) == len(topology.kernels) == len(topology.features)
    assert all(set(kernel) <= {1, 3} for kernel in topology.kernels)


@pytest.mark.parametrize(
    ("spacing", "shape", "rules"),
    [((1, 1, 1), (20, 24, 33), RULES_3D), ((4, 0.9, 0.9), (12, 40, 48), RULES_3D),
     ((1, 1), (70, 50), RULES_2D)],
)  # fmt: skip
def test_the_network_can_be_built_and_takes_the_patch(spacing, shape, rules) -> None:
    import torch

    topology = plan_topology(spacing, shape, 3, rules)
    network = create_network(
        "nnunet",
        in_channels=1,
        out_channels=3,
        kernels=topology.kernels,
        strides=topology.strides,
        features=[4] * len(topology.strides),
    )
    with torch.inference_mode():
        logits = network.eval()(torch.zeros(1, 1, *topology.patch))
    assert logits.shape == (1, 3, *topology.patch)


def test_the_median_shape_is_taken_along_each_axis() -> None:
    assert median_shape([(1, 9, 5), (2, 8, 4), (3, 7, 100)]) == (2, 8, 5)
