"""The graph of centreline segments that becomes a tree of branches."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

# The main bronchi are apart by anatomy; lungs that touch must not make one airway of them.
_KEPT_APART = 1


class BranchGraph:
    """Segments that meet at junctions; merging makes branches of them.

    Args:
        contacts: pairs (segment 1..n, junction) that touch.
        lengths: length of each segment in mm, index 0 unused.
        volumes: volume of each segment's part of the mask in mm3, index 0 unused.
    """

    def __init__(
        self,
        contacts: NDArray[np.int64],
        lengths: NDArray[np.float64],
        volumes: NDArray[np.float64],
    ) -> None:
        self.lengths = lengths
        self.volumes = volumes
        self.root = 1
        self._merged_into = list(range(len(lengths)))
        self._near: dict[int, set[int]] = {n: set() for n in range(1, len(lengths))}
        meeting: dict[int, list[int]] = {}
        for segment, junction in contacts.tolist():
            meeting.setdefault(junction, []).append(segment)
        for members in meeting.values():
            for segment in members:
                self._near[segment].update(m for m in members if m != segment)

    def root_at(self, segment: int) -> None:
        """Count generations from ``segment``."""
        self.root = segment

    def extend_root(self, share: float) -> None:
        """Let the root take in all that it meets until it divides into two large parts.

        Args:
            share: a part is large when it carries this share of the whole length.
        """
        while True:
            parents, order = self._breadth_first()
            carried = self._carried_lengths(parents, order)
            needed = share * carried[self.root]
            children = [n for n in order if parents[n] == [self.root]]
            large = [n for n in children if carried[n] >= needed]
            for child in set(children) - set(large):
                self._absorb_subtree(child, parents, order)
            if len(large) != 1:
                return
            self._merge(large[0], self.root)

    def merge_until_stable(self) -> None:
        """Merge double parents, and parents with their only child, until nothing changes."""
        while self._merge_once():
            pass

    def numbered(self) -> tuple[NDArray[np.int64], list[int | None], list[int]]:
        """Branch numbers 1..K breadth first, larger volume first within one parent.

        Returns:
            Branch number of every segment (index 0 stays 0), and parent number and generation of
            every branch.
        """
        parents, order = self._breadth_first()
        number = {segment: n for n, segment in enumerate(order, start=1)}
        generations = self._generations(parents, order)
        table = np.zeros(len(self._merged_into), np.int64)
        for segment in range(1, len(table)):
            table[segment] = number[self._representative(segment)]
        up = [number[parents[s][0]] if parents[s] else None for s in order]
        return table, up, [generations[s] for s in order]

    def _merge_once(self) -> bool:
        parents, order = self._breadth_first()
        generations = self._generations(parents, order)
        children: dict[int, list[int]] = {n: [] for n in order}
        for node in order:
            for parent in parents[node]:
                children[parent].append(node)
        for node in order:
            first, *others = parents[node] or [node]
            if others and generations[first] > _KEPT_APART:
                for other in others:
                    self._merge(other, first)
                return True
            if len(children[node]) == 1 and len(parents[children[node][0]]) == 1:
                self._merge(children[node][0], node)
                return True
        return False

    def _breadth_first(self) -> tuple[dict[int, list[int]], list[int]]:
        """All parents of each node, largest first, and the nodes in breadth-first order."""
        parents: dict[int, list[int]] = {self.root: []}
        generation = {self.root: 0}
        order, queue = [], deque([self.root])
        while queue:
            node = queue.popleft()
            order.append(node)
            for near in sorted(self._near[node], key=lambda n: (-self.volumes[n], n)):
                if near not in generation:
                    generation[near] = generation[node] + 1
                    parents[near] = [node]
                    queue.append(near)
                elif generation[near] == generation[node] + 1:
                    parents[near].append(node)
        return parents, order

    @staticmethod
    def _generations(parents: dict[int, list[int]], order: list[int]) -> dict[int, int]:
        generations: dict[int, int] = {}
        for node in order:
            generations[node] = generations[parents[node][0]] + 1 if parents[node] else 0
        return generations

    def _carried_lengths(self, parents: dict[int, list[int]], order: list[int]) -> dict[int, float]:
        """Length of each node with everything that springs from it."""
        carried = {node: float(self.lengths[node]) for node in order}
        for node in reversed(order):
            if parents[node]:
                carried[parents[node][0]] += carried[node]
        return carried

    def _absorb_subtree(self, top: int, parents: dict[int, list[int]], order: list[int]) -> None:
        inside = {top}
        for node in order:
            if parents[node] and parents[node][0] in inside:
                inside.add(node)
        for node in inside:
            self._merge(node, self.root)

    def _merge(self, source: int, target: int) -> None:
        self._merged_into[source] = target
        self.lengths[target] += self.lengths[source]
        self.volumes[target] += self.volumes[source]
        near = self._near.pop(source) - {target}
        self._near[target] |= near
        self._near[target].discard(source)
        for other in near:
            self._near[other].discard(source)
            self._near[other].add(target)

    def _representative(self, segment: int) -> int:
        while self._merged_into[segment] != segment:
            segment = self._merged_into[segment]
        return segment
