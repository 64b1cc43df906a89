"""Airways and vessels grown from nothing: a chest that needs no patient.

A tree fills a lung the way volume-filling models of the bronchial tree do (Tawhai et al., J Appl
Physiol 2004): the points a branch must supply are split by a plane, and each half gets a branch
towards its centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imbalanceseg.geometry import Grid
from imbalanceseg.synthesis.anatomy import FAR_MM, ChestAnatomy, hull_distance, signed_distance

_REACH_MM = 4.0


@dataclass(frozen=True)
class Tube:
    """A straight tapered piece of airway or vessel; LPS millimetres."""

    start_mm: np.ndarray
    end_mm: np.ndarray
    start_radius_mm: float
    end_radius_mm: float


def grow_chest(seed: int, spacing_mm: float = 0.8, scale: float = 1.0) -> ChestAnatomy:
    """A chest with lungs, a bronchial tree, arteries beside the bronchi, and veins.

    Args:
        seed: same seed, same chest.
        spacing_mm: isotropic spacing of the maps.
        scale: overall size; 1 is an adult, 0.5 a chest that renders in seconds.
    """
    rng = np.random.default_rng(seed)
    half_mm = np.array([150.0, 110.0, 165.0]) * scale
    nx, ny, nz = (int(n) for n in np.ceil(2 * half_mm / spacing_mm))
    x0, y0, z0 = (float(v) for v in -half_mm + spacing_mm / 2)
    grid = Grid(
        size=(nx, ny, nz),
        spacing_mm=(spacing_mm,) * 3,
        origin_mm=(x0, y0, z0),
        direction=tuple(np.eye(3).ravel()),
    )
    lungs = _lungs(grid, rng, scale)
    airways, arteries, veins = _trees(lungs, grid, rng, scale)
    distance, radius, to_axis = _rasterize(airways, grid)
    solid, _, _ = _rasterize(arteries + veins, grid)
    lung_distance = signed_distance(lungs > 0, (spacing_mm,) * 3).astype(np.float16)
    inside = distance < 0
    furthest = float(to_axis[inside].max())
    weight = np.where(inside, 1.0 - np.sqrt(np.clip(to_axis / furthest, 0, 1)), 1.0)
    return ChestAnatomy(
        grid=grid,
        airway_distance_mm=distance.astype(np.float16),
        airway_radius_mm=radius.astype(np.float16),
        centerline_weight=weight.astype(np.float16),
        solid_distance_mm=solid.astype(np.float16),
        lung_distance_mm=lung_distance,
        fissure_distance_mm=_fissures(grid, rng, scale),
        body_distance_mm=hull_distance((lungs > 0) | inside, spacing_mm),
    )


def _coordinates(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    axes = [
        o + s * np.arange(n)
        for o, s, n in zip(grid.origin_mm, grid.spacing_mm, grid.size, strict=True)
    ]
    x, y, z = (a.astype(np.float32) for a in axes)
    return x[None, None, :], y[None, :, None], z[:, None, None]


def _lungs(grid: Grid, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Label map ``[Z, Y, X]``: 1 right lung, 2 left lung."""
    x, y, z = (c / scale for c in _coordinates(grid))
    width, depth, height = rng.uniform((54, 78, 118), (64, 92, 132))
    dome = rng.uniform(90, 120)
    lungs = np.zeros(grid.size[::-1], np.uint8)
    heart = ((x - 22) / 52) ** 2 + ((y + 22) / 46) ** 2 + ((z + 45) / 62) ** 2 < 1
    middle = (np.abs(x) / 26) ** 2 + ((y - 5) / 75) ** 2 < 1
    for value, side in ((1, -1), (2, 1)):
        shape = ((x - side * 70) / width) ** 2 + ((y - 5) / depth) ** 2 + (
            (z + 10) / height
        ) ** 2 < 1
        diaphragm = ((x - side * 70) / 85) ** 2 + (y / 110) ** 2 + ((z + 190) / dome) ** 2 < 1
        lungs[shape & ~diaphragm & ~heart & ~middle] = value
    return lungs


def _fissures(grid: Grid, rng: np.random.Generator, scale: float) -> np.ndarray:
    x, y, z = (c / scale for c in _coordinates(grid))
    slope = rng.uniform(0.7, 1.1)
    bulge = 6 * np.sin(x / rng.uniform(18, 30)) + 4 * np.sin(y / rng.uniform(15, 25))
    oblique = np.abs(z - slope * y + 5 + bulge) / np.hypot(1.0, slope)
    horizontal = np.where((x < 0) & (y < 0), np.abs(z - 8 + 0.5 * bulge), 80.0)
    return np.minimum(np.minimum(oblique, horizontal) * scale, FAR_MM).astype(np.float16)


def _trees(
    lungs: np.ndarray, grid: Grid, rng: np.random.Generator, scale: float
) -> tuple[list[Tube], list[Tube], list[Tube]]:
    trachea_radius = rng.uniform(7.5, 10.0) * scale
    top = np.array([0.0, rng.uniform(-5, 5), 164.0]) * scale
    carina = np.array([rng.uniform(-6, 2), 6.0, rng.uniform(38, 52)]) * scale
    airways = [Tube(top, carina, trachea_radius, trachea_radius * 0.95)]
    arteries: list[Tube] = []
    veins: list[Tube] = []
    atrium = np.array([8.0, 18.0, -5.0]) * scale
    for value, hilum in ((1, (-40.0, 8.0, 18.0)), (2, (46.0, 8.0, 20.0))):
        inside = np.argwhere(lungs == value)
        goal = np.array(hilum) * scale + rng.normal(0, 3, 3) * scale
        main_radius = trachea_radius * rng.uniform(0.62, 0.78)
        main = Tube(carina, goal, main_radius, main_radius * 0.9)
        supplied = _points(inside, grid, rng, count=int(rng.integers(160, 320)))
        branches = _grow(main, supplied, rng, scale)
        airways += [main, *branches]
        arteries += _beside(branches, rng)
        pulmonary = Tube(atrium, np.array(hilum) * scale * 0.9, 7.0 * scale, 5.0 * scale)
        veins += [pulmonary, *_grow(pulmonary, _points(inside, grid, rng, 260), rng, scale)]
    return airways, arteries, veins


def _points(inside: np.ndarray, grid: Grid, rng: np.random.Generator, count: int) -> np.ndarray:
    chosen = inside[rng.integers(0, len(inside), count)][:, ::-1]
    return grid.index_to_physical(chosen)


def _grow(parent: Tube, points: np.ndarray, rng: np.random.Generator, scale: float) -> list[Tube]:
    """Branches that lead from the end of ``parent`` to all ``points``."""
    tubes: list[Tube] = []
    waiting = [(parent.end_mm, parent.end_mm - parent.start_mm, parent.end_radius_mm, points)]
    while waiting:
        tip, direction, radius, group = waiting.pop()
        for part in _halves(group, tip, direction, rng):
            share = len(part) / len(group)
            child_radius = radius * np.clip(share ** rng.uniform(0.3, 0.42), 0.45, 0.95)
            if len(part) < 2 or child_radius < 0.55 * scale:
                continue
            towards = part.mean(axis=0) - tip
            reach = np.linalg.norm(towards)
            length = np.clip(rng.uniform(0.35, 0.5) * reach, 3.0 * scale, 45.0 * scale)
            heading = _unit(_unit(towards) + rng.uniform(0.15, 0.4) * _unit(direction))
            end = tip + heading * length
            bend = tip + heading * length / 2 + rng.normal(0, 0.05 * length, 3)
            mid_radius, end_radius = 0.97 * child_radius, 0.93 * child_radius
            tubes.append(Tube(tip, bend, child_radius, mid_radius))
            tubes.append(Tube(bend, end, mid_radius, end_radius))
            waiting.append((end, end - bend, end_radius, part))
    return tubes


def _halves(
    group: np.ndarray, tip: np.ndarray, direction: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Split points by the plane through the branch that their widest spread stands on."""
    forward = _unit(group.mean(axis=0) - tip + 1e-3 * direction)
    across = group - group.mean(axis=0)
    across = across - np.outer(across @ forward, forward)
    spread = np.linalg.svd(across + rng.normal(0, 1e-3, across.shape), full_matrices=False)[2][0]
    position = across @ spread
    cut = np.quantile(position, rng.uniform(0.3, 0.7))
    return group[position <= cut], group[position > cut]


def _beside(branches: list[Tube], rng: np.random.Generator) -> list[Tube]:
    """The artery that runs along each bronchus, about as wide as the bronchus itself."""
    arteries = []
    side = _unit(rng.normal(size=3))
    for tube in branches:
        axis = _unit(tube.end_mm - tube.start_mm)
        normal = _unit(side - (side @ axis) * axis)
        width = rng.uniform(0.8, 1.2)
        shift = normal * (tube.start_radius_mm * (1.15 + width) + 0.8)
        arteries.append(
            Tube(
                tube.start_mm + shift,
                tube.end_mm + shift,
                tube.start_radius_mm * width,
                tube.end_radius_mm * width,
            )
        )
    return arteries


def _rasterize(tubes: list[Tube], grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distance, radius of the nearest tube and distance to its axis, ``[Z, Y, X]`` in mm."""
    shape = grid.size[::-1]
    distance = np.full(shape, FAR_MM, np.float32)
    radius = np.ones(shape, np.float32)
    to_axis = np.full(shape, FAR_MM, np.float32)
    x, y, z = _coordinates(grid)
    for tube in tubes:
        reach = max(tube.start_radius_mm, tube.end_radius_mm) + _REACH_MM
        low = np.floor(grid.physical_to_index(np.minimum(tube.start_mm, tube.end_mm) - reach))
        high = np.ceil(grid.physical_to_index(np.maximum(tube.start_mm, tube.end_mm) + reach)) + 1
        low, high = np.clip(low, 0, grid.size).astype(int), np.clip(high, 0, grid.size).astype(int)
        if np.any(high <= low):
            continue
        sx, sy, sz = (slice(a, b) for a, b in zip(low, high, strict=True))
        axis_distance, width = _to_tube(tube, x[:, :, sx], y[:, sy], z[sz])
        candidate = axis_distance - width
        box = (sz, sy, sx)
        nearer = candidate < distance[box]
        distance[box] = np.where(nearer, candidate, distance[box])
        radius[box] = np.where(nearer, width, radius[box])
        to_axis[box] = np.where(nearer, axis_distance, to_axis[box])
    return np.clip(distance, -FAR_MM, FAR_MM), radius, to_axis


def _to_tube(
    tube: Tube, x: np.ndarray, y: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    axis = tube.end_mm - tube.start_mm
    length_squared = float(axis @ axis) + 1e-9
    dx, dy, dz = (c - s for c, s in zip((x, y, z), tube.start_mm, strict=True))
    along = np.clip((dx * axis[0] + dy * axis[1] + dz * axis[2]) / length_squared, 0, 1)
    rest = (dx - along * axis[0]) ** 2 + (dy - along * axis[1]) ** 2 + (dz - along * axis[2]) ** 2
    width = tube.start_radius_mm + along * (tube.end_radius_mm - tube.start_radius_mm)
    return np.sqrt(rest), width


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / (np.linalg.norm(vector) + 1e-9)
