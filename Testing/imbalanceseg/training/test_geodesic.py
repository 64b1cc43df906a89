"""Geodesic distances: against Dijkstra's algorithm, and in cases whose distance is known."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from imbalanceseg.training.geodesic import geodesic_distances

THICK = (3.0, 1.0, 0.8)


def exact(
    values: np.ndarray, seeds: np.ndarray, spacing_mm: tuple[float, ...], per_mm: float
) -> np.ndarray:
    """The same by Dijkstra's algorithm, ``[Z, Y, X]``."""
    shape = seeds.shape
    numbers = np.arange(seeds.size).reshape(shape)
    ends = []
    for move in product((-1, 0, 1), repeat=3):
        if move <= (0, 0, 0):
            continue
        of = tuple(slice(max(0, -m), n - max(0, m)) for m, n in zip(move, shape, strict=True))
        to = tuple(slice(max(0, m), n - max(0, -m)) for m, n in zip(move, shape, strict=True))
        length = np.linalg.norm(np.multiply(move, spacing_mm))
        cost = np.abs(values[:, *to] - values[:, *of]).sum(0) + per_mm * length
        ends.append((numbers[of].ravel(), numbers[to].ravel(), cost.ravel()))
    a, b, cost = (np.concatenate(part) for part in zip(*ends, strict=True))
    graph = coo_array((cost, (a, b)), shape=(seeds.size, seeds.size)).tocsr()
    found = dijkstra(graph, directed=False, indices=numbers[seeds], min_only=True)
    return found.reshape(shape)


def noise(shape: tuple[int, ...], seed: int, smooth: float = 1.0) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal(shape)
    return np.stack([gaussian_filter(one, smooth) for one in drawn]).astype(np.float32)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), THICK])
@pytest.mark.parametrize("channels", [1, 2])
def test_many_passes_are_exact(channels: int, spacing_mm: tuple[float, ...]) -> None:
    values = noise((channels, 7, 9, 8), seed=channels)
    seeds = np.zeros((2, 7, 9, 8), bool)
    seeds[0, 3, 4, 5] = seeds[1, 0] = True
    found = geodesic_distances(
        torch.from_numpy(values), torch.from_numpy(seeds), spacing_mm, 0.05, passes=6
    )
    for one, of in zip(found.numpy(), seeds, strict=True):
        np.testing.assert_allclose(one, exact(values, of, spacing_mm, 0.05), rtol=1e-4, atol=1e-5)


def test_one_pass_is_close() -> None:
    values = noise((1, 20, 24, 22), seed=3)
    seeds = np.zeros((1, 20, 24, 22), bool)
    seeds[0, 4] = True
    found = geodesic_distances(torch.from_numpy(values), torch.from_numpy(seeds), (1, 1, 1), 0.05)
    wanted = exact(values, seeds[0], (1, 1, 1), 0.05)
    assert (found[0].numpy() >= wanted - 1e-5).all()
    assert found[0].numpy().mean() < 1.01 * wanted.mean()


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), THICK])
def test_without_an_edge_it_is_the_distance_in_millimetres(spacing_mm: tuple[float, ...]) -> None:
    seeds = np.zeros((15, 15, 15), bool)
    seeds[7, 7, 7] = True
    flat = torch.full((1, 15, 15, 15), 3.0)
    found = geodesic_distances(flat, torch.from_numpy(seeds)[None], spacing_mm, 0.5)[0].numpy()
    straight = 0.5 * distance_transform_edt(~seeds, sampling=spacing_mm)
    assert (found >= straight - 1e-4).all()
    # Paths turn by 45 degrees only: 13 % too long where voxels are cubes, more where they are not.
    assert (found <= (1.13 if spacing_mm[0] == 1 else 1.3) * straight + 1e-4).all()
    np.testing.assert_allclose(found[:, 7, 7], straight[:, 7, 7], rtol=1e-5)


def test_a_wall_is_gone_around_only_where_it_ends() -> None:
    values = torch.zeros(1, 9, 9, 9)
    values[:, :, 4] = 10.0
    seeds = torch.zeros(1, 9, 9, 9, dtype=torch.bool)
    seeds[0, 4, 0, 4] = True
    across = geodesic_distances(values, seeds, (1, 1, 1), 1e-3)[0]
    assert across[4, 8, 4] > 20
    values[:, 8] = 0.0
    around = geodesic_distances(values, seeds, (1, 1, 1), 1e-3)[0]
    assert around[4, 8, 4] < 0.1


def test_nothing_is_infinitely_far() -> None:
    seeds = torch.zeros(1, 4, 4, 4, dtype=torch.bool)
    assert torch.isinf(geodesic_distances(torch.zeros(1, 4, 4, 4), seeds, (1, 1, 1), 1.0)).all()


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.1, 10), st.integers(0, 2))
def test_units_axes_and_more_seeds(seed: int, factor: float, axis: int) -> None:
    """Distances scale with the values, turn with the volume and shrink with more seeds."""
    draw = np.random.default_rng(seed)
    values = torch.from_numpy(noise((1, 5, 5, 5), seed))
    few = torch.from_numpy(draw.random((1, 5, 5, 5)) < 0.02)
    few[0, 0, 0, 0] = True
    many = few | torch.from_numpy(draw.random((1, 5, 5, 5)) < 0.02)
    passes = 6
    found = geodesic_distances(values, few, (1, 1, 1), 0.1, passes)
    scaled = geodesic_distances(factor * values, few, (1, 1, 1), factor * 0.1, passes)
    assert torch.allclose(scaled, factor * found, rtol=1e-4, atol=1e-5)
    flipped = geodesic_distances(values.flip(1 + axis), few.flip(1 + axis), (1, 1, 1), 0.1, passes)
    assert torch.allclose(flipped.flip(1 + axis), found, rtol=1e-4, atol=1e-5)
    assert (geodesic_distances(values, many, (1, 1, 1), 0.1, passes) <= found + 1e-5).all()
    assert (found[few] == 0).all()
