"""A slice that is worth painting."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SuggestedSlice:
    """A slice that is worth painting.

    Attributes:
        axis: index axis of the volume that the slice is normal to: 0 i, 1 j, 2 k.
        index: along that axis, from 0.
        score: what painting it would resolve for its cost, as a share of the best suggestion's.
        reason: a phrase for people.
    """

    axis: int
    index: int
    score: float
    reason: str
