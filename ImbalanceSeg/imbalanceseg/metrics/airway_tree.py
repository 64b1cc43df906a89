"""Take an airway mask apart into its branches: trachea, main bronchi and on to the periphery."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.metrics.branch_graph import BranchGraph
from imbalanceseg.metrics.centreline import (
    Centreline,
    Numbers,
    centreline,
    contacts,
    filled,
    largest_component,
    split_at_junctions,
)
from imbalanceseg.metrics.masks import Mask, foreground, label_values, upright
from imbalanceseg.metrics.thinning import Spacing

# The trachea is the widest airway; its cross-section varies with breathing and at its ends.
_TRACHEA_AREA_SHARE = 0.3
# The smaller lung holds a third of the airways or more; larynx and wall pouches hold hardly any.
_LUNG_SHARE = 0.1


@dataclass(frozen=True)
class Branch:
    """One airway from the bifurcation where it begins to the one where it divides.

    Attributes:
        number: 1..K, the value of its voxels in :attr:`AirwayTree.regions`; the trachea is 1.
        generation: 0 for the trachea, 1 for the main bronchi, and so on.
        parent: number of the branch it springs from; None for the trachea.
        children: numbers of the branches it divides into; empty for a terminal branch.
        volume_mm3: volume of its part of the mask.
        length_mm: length of its part of the centreline.
    """

    number: int
    generation: int
    parent: int | None
    children: tuple[int, ...]
    volume_mm3: float
    length_mm: float


@dataclass(frozen=True, eq=False)
class AirwayTree:
    """An airway mask taken apart.

    Attributes:
        branches: the branches by generation, ``branches[n].number == n + 1``.
        regions: uint16 ``[z, y, x]``, branch number of each voxel of the largest component with
            its cavities filled, 0 elsewhere. Covers the box around the mask; axes near S, P, L.
        grid: where ``regions`` lies.
        centreline: centreline of the mask; its ``voxels`` are indices into ``regions``.
    """

    branches: tuple[Branch, ...]
    regions: NDArray[np.uint16]
    grid: Grid
    centreline: Centreline

    @property
    def trachea(self) -> Branch:
        """The branch all others spring from."""
        return self.branches[0]

    @property
    def point_branches(self) -> Numbers:
        """Branch number of each centreline point, ``[n]``."""
        return self.regions[tuple(self.centreline.voxels.T)].astype(np.int64)

    @property
    def carina_mm(self) -> tuple[float, float, float]:
        """LPS position of the lower end of the trachea's centreline, in mm."""
        of_trachea = self.centreline.voxels[self.point_branches == self.trachea.number]
        lowest = of_trachea[of_trachea[:, 0].argmin()]
        x, y, z = self.grid.index_to_physical(lowest[::-1])
        return float(x), float(y), float(z)

    def region_image(self, grid: Grid) -> sitk.Image:
        """Branch numbers as a uint16 image on ``grid``, usually that of the mask."""
        return resample(image_from_array(self.regions, self.grid), grid, "nearest")


def parse_airway_tree(mask: sitk.Image) -> AirwayTree:
    """Take the largest component of an airway mask apart into branches.

    The centreline, cut at its junctions, gives segments; every voxel goes to the nearest one. The
    trachea is found by anatomy: begin at the highest of the wide segments and follow the
    airway down past everything that carries less than 10 % of the whole centreline (larynx,
    pouches of the wall) to where it divides into parts that carry more, the carina. Generations
    are counted from there, breadth first along the centreline. Two parents of one branch are one
    airway (a loop of the centreline), and so are a parent and its only child; both are merged
    until nothing changes.

    Where the mask holds no trachea, or a bronchus leaves the trachea above the carina, the first
    division found stands in for the carina.

    Args:
        mask: 3D label image of the airways: any value but 0 and 255 is airway.

    Returns:
        The tree; the same for every storage order of the axes.

    Raises:
        InputError: the mask is empty or no label image.

    Source: parser of the public WingsNet/ATM'22 evaluation (junctions, nearest-segment parts,
    breadth-first generations, merging). Spur pruning, adjacency along the centreline instead of
    between dilated parts, and the search for the trachea differ from it.
    """
    (airway,), grid = upright([foreground(label_values(mask, "airway mask"))], Grid.of(mask))
    return tree_of(airway, grid)


def tree_of(airway: Mask, grid: Grid) -> AirwayTree:
    """:func:`parse_airway_tree` for an array that :func:`~.masks.upright` has made."""
    if not airway.any():
        raise InputError("airway-empty", "The airway mask is empty, so it has no branches.")
    lumen = filled(largest_component(airway))
    x, y, z = grid.spacing_mm
    spacing, voxel_mm3 = (z, y, x), float(x * y * z)
    line = centreline(lumen, spacing)
    lengths = line.point_lengths_mm
    segments, junctions = split_at_junctions(line.points)
    nearest = _nearest_segment(lumen, line, segments, spacing)
    graph = BranchGraph(
        contacts(line.points, segments, junctions),
        lengths=np.bincount(segments, lengths).astype(np.float64),
        volumes=np.bincount(nearest.ravel()).astype(np.float64) * voxel_mm3,
    )
    graph.root_at(_top_of_trachea(graph, line, segments))
    graph.extend_root(_LUNG_SHARE)
    graph.merge_until_stable()
    numbers, parents, generations = graph.numbered()
    regions = numbers[nearest].astype(np.uint16)
    branches = _branches(regions, line, parents, generations, voxel_mm3)
    return AirwayTree(branches, regions, grid, line)


def _nearest_segment(
    lumen: Mask, line: Centreline, segments: Numbers, spacing: Spacing
) -> NDArray[np.uint32]:
    """For every voxel of the lumen the segment whose centreline is nearest, 0 elsewhere."""
    on_segment = segments > 0
    voxels = np.argwhere(lumen)
    positions = (line.points[on_segment] + 0.5) * line.spacing_mm
    nearest = cKDTree(positions).query((voxels + 0.5) * spacing)[1]
    regions = np.zeros(lumen.shape, np.uint32)
    regions[lumen] = segments[on_segment][nearest]
    return regions


def _top_of_trachea(graph: BranchGraph, line: Centreline, segments: Numbers) -> int:
    """The highest segment among those about as wide as the one with the largest volume."""
    area = graph.volumes / np.maximum(graph.lengths, 1e-6)
    area[0] = 0
    wide = area >= _TRACHEA_AREA_SHARE * area[int(graph.volumes[1:].argmax()) + 1]
    highest = np.full(len(area), -1)
    np.maximum.at(highest, segments, line.points[:, 0])
    return int(np.where(wide, highest, -1).argmax())


def _branches(
    regions: NDArray[np.uint16],
    line: Centreline,
    parents: list[int | None],
    generations: list[int],
    voxel_mm3: float,
) -> tuple[Branch, ...]:
    count = len(parents)
    volume = np.bincount(regions.ravel(), minlength=count + 1) * voxel_mm3
    length = np.bincount(regions[tuple(line.voxels.T)], line.point_lengths_mm, count + 1)
    children: list[list[int]] = [[] for _ in range(count + 1)]
    for number, parent in enumerate(parents, start=1):
        if parent is not None:
            children[parent].append(number)
    return tuple(
        Branch(
            number=n,
            generation=generations[n - 1],
            parent=parents[n - 1],
            children=tuple(children[n]),
            volume_mm3=float(volume[n]),
            length_mm=float(length[n]),
        )
        for n in range(1, count + 1)
    )
