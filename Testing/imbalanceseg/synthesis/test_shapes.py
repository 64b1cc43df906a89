from __future__ import annotations

import pytest
import torch

from imbalanceseg.synthesis.shapes import (
    Coordinates,
    capsule,
    ellipsoid,
    filled,
    smooth_common,
    smooth_union,
    tube,
)


@pytest.fixture
def at() -> Coordinates:
    axis = torch.arange(-20.0, 21.0)
    return Coordinates(axis[None, None, :], axis[None, :, None], axis[:, None, None])


def test_a_ball_is_its_exact_distance(at):
    expected = at.distance((1.0, -2.0, 3.0)) - 8
    torch.testing.assert_close(ellipsoid(at, (1, -2, 3), (8, 8, 8)), expected, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(capsule(at, (1, -2, 3), (1, -2, 3), 8, 8), expected)


def test_an_ellipsoid_vanishes_on_its_surface(at):
    distance = ellipsoid(at, (0, 0, 0), (5, 10, 15))
    for point, axis in (((20, 20, 25), "x"), ((20, 30, 20), "y"), ((35, 20, 20), "z")):
        assert abs(float(distance[point])) < 1e-4, axis
    assert float(distance[20, 20, 20]) == -5


def test_a_tube_is_as_wide_as_asked_at_each_point(at):
    distance = tube(at, [((-10, 0, 0), 2.0), ((0, 0, 0), 4.0), ((0, 0, 10), 1.0)])
    centres = [(20, 20, 10), (20, 20, 20), (30, 20, 20)]
    assert [float(distance[c]) for c in centres] == pytest.approx([-2, -4, -1], abs=1e-5)


def test_smooth_joints_only_change_what_lies_near_both(at):
    first, second = at.x + 0 * at.y + 0 * at.z, at.y + 0 * at.x + 0 * at.z
    joined = smooth_union(first, second, 4)
    far = (first - second).abs() > 4
    assert torch.equal(joined[far], torch.minimum(first, second)[far])
    assert float(joined[20, 20, 20]) == -1
    common = smooth_common(first, second, 4)
    assert torch.equal(common[far], torch.maximum(first, second)[far])


def test_a_part_and_a_mirror_are_the_same_points(at):
    box = (slice(3, 9), slice(0, 5), slice(30, 41))
    distance = ellipsoid(at, (4, 0, 0), (6, 7, 8))
    torch.testing.assert_close(ellipsoid(at.part(box), (4, 0, 0), (6, 7, 8)), distance[box])
    mirrored = ellipsoid(at.mirrored(), (4, 0, 0), (6, 7, 8))
    assert torch.equal(mirrored, mirrored.flip(2))


def test_half_of_a_voxel_on_the_surface_is_filled():
    shares = filled(torch.tensor([-3.0, -0.25, 0.0, 0.25, 3.0]), 1.0)
    assert shares.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
