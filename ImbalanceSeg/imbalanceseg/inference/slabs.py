"""Connected components of a volume, a slab of it at a time, so that numbers never fill memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import pairwise, product
from math import prod
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Look = Callable[[slice], NDArray[Any]]
"""Gives the planes of a span of ``[z, y, x]``, contiguous."""

_Mask = NDArray[np.bool_]
_Numbers = NDArray[np.integer[Any]]

_BYTES_PER_VOXEL = 10
"""Of a slab: what is looked at and how it was made, its numbers, and a mask of some of them."""
_COUNTED = 2**22
"""Voxels that are counted at once, because counting takes their numbers in 64 bits."""


def spans(depth: int, step: int) -> list[slice]:
    """Parts of ``step`` planes, the last one of what is left."""
    return [slice(start, min(start + step, depth)) for start in range(0, depth, step)]


def planes_within(shape: tuple[int, ...], memory: int) -> int:
    """How many planes of ``[z, y, x]`` components can be found of in so many bytes; at least 1."""
    return int(np.clip(memory // (_BYTES_PER_VOXEL * prod(shape[1:])), 1, shape[0]))


class Components:
    """The connected components of a volume, in the order in which its memory meets them.

    They are the same whatever the height of the slabs. Only a slab that is the whole volume keeps
    its numbers; others are numbered again whenever they are needed.

    Args:
        look: gives a slab; voxels that touch and have the same value other than 0 are joined.
        shape: ``[z, y, x]`` of the volume.
        connectivity: 6, 18 or 26.
        planes: height of a slab.

    Attributes:
        count: how many there are; they are numbered from 1.
    """

    def __init__(self, look: Look, shape: tuple[int, ...], connectivity: int, planes: int) -> None:
        self._look, self._connectivity = look, connectivity
        self._spans = spans(shape[0], planes)
        self._whole: _Numbers | None = None
        self._joined = self._united()
        self.count = int(max(one.max() for one in self._joined))

    def sizes(self, within: Look | None = None) -> NDArray[np.int64]:
        """How many voxels each has, of those ``within`` where it is given; ``[0]`` is no component.

        Args:
            within: gives a slab of a mask.
        """
        found = np.zeros(self.count + 1, np.int64)
        for span, joined in zip(self._spans, self._joined, strict=True):
            mask = None if within is None else within(span)
            if mask is not None and not mask.any():
                continue
            numbers = self._numbers(span)
            for some in spans(len(numbers), max(1, _COUNTED // numbers[0].size)):
                part = numbers[some]
                counts = np.bincount(part[part > 0 if mask is None else mask[some]])
                np.add.at(found, joined[: len(counts)], counts)
        return found

    def at_border(self, axes: Collection[int]) -> _Mask:
        """Whether each has a voxel at either end of one of these axes; ``[0]`` means nothing."""
        found = np.zeros(self.count + 1, np.bool_)
        for span, joined in zip(self._spans, self._joined, strict=True):
            numbers = self._numbers(span)
            for axis in axes:
                if axis or span == self._spans[0]:
                    found[joined[numbers.take(0, axis)]] = True
                if axis or span == self._spans[-1]:
                    found[joined[numbers.take(-1, axis)]] = True
        return found

    def where(self, chosen: _Mask) -> Iterator[tuple[slice, _Mask]]:
        """Every span with a mask of the voxels that belong to chosen components.

        What has been handed out may be changed in the volume before the next slab is asked for.

        Args:
            chosen: ``[count + 1]``; the first says what becomes of voxels of no component.
        """
        for span, joined in zip(self._spans, self._joined, strict=True):
            numbers, picked = self._numbers(span), chosen[joined]
            hits = np.flatnonzero(picked)
            # A comparison is ten times as fast as a look into a table.
            yield span, numbers == hits[0] if len(hits) == 1 else picked.take(numbers)

    def _numbers(self, span: slice) -> _Numbers:
        if self._whole is not None:
            return self._whole
        return cc3d.connected_components(self._look(span), connectivity=self._connectivity)

    def _united(self) -> list[_Numbers]:
        """For every slab, which component each of its numbers is part of; 0 stays 0."""
        if len(self._spans) == 1:
            self._whole = self._numbers(self._spans[0])
            return [np.arange(int(self._whole.max()) + 1)]
        ends: list[int] = [1]
        pairs: list[_Numbers] = []
        before: tuple[NDArray[Any], _Numbers] | None = None
        for span in self._spans:
            slab = self._look(span)
            numbers, count = cc3d.connected_components(
                slab, connectivity=self._connectivity, return_N=True
            )
            # Numbers go on from slab to slab; 0 is never looked at.
            first, last = (numbers[n].astype(np.int64) + ends[-1] - 1 for n in (0, -1))
            if before is not None:
                pairs.append(_touching(before, (slab[0], first), self._connectivity))
            before = slab[-1].copy(), last
            ends.append(ends[-1] + count)
        component = _in_order(np.concatenate(pairs, axis=1), ends[-1])
        return [np.concatenate([[0], component[first:end]]) for first, end in pairwise(ends)]


def _touching(
    below: tuple[NDArray[Any], _Numbers], above: tuple[NDArray[Any], _Numbers], connectivity: int
) -> _Numbers:
    """``[2, N]`` numbers that are one across two planes, given values and numbers of both."""
    found = []
    for shift in product((-1, 0, 1), repeat=2):
        if np.abs(shift).sum() > {6: 0, 18: 1, 26: 2}[connectivity]:
            continue
        here = tuple(slice(max(0, -n), min(0, -n) or None) for n in shift)
        there = tuple(slice(max(0, n), min(0, n) or None) for n in shift)
        same = (below[0][here] == above[0][there]) & (below[0][here] != 0)
        found.append(np.unique(below[1][here][same] << 32 | above[1][there][same]))
    pairs = np.concatenate(found)
    return np.array([pairs >> 32, pairs & 0xFFFFFFFF])


def _in_order(pairs: _Numbers, count: int) -> _Numbers:
    """Which set each of ``count`` numbers is in, the sets numbered by their least members."""
    joined = coo_matrix((np.ones(pairs.shape[1], np.bool_), tuple(pairs)), (count, count))
    sets = connected_components(joined, directed=False)[1]
    _, first, of_number = np.unique(sets, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[of_number]
