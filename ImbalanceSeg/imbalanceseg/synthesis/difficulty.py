"""The dial that every phantom has: 0 is plainly visible, 1 is barely visible."""

from __future__ import annotations

import math

from imbalanceseg.errors import InputError

DEFAULT_DIFFICULTY = 0.5


def require_difficulty(difficulty: float) -> float:
    """``difficulty`` as a float, if it lies in [0, 1].

    Raises:
        InputError: it does not, or it is no finite number.
    """
    if not (math.isfinite(difficulty) and 0 <= difficulty <= 1):
        raise InputError(
            "difficulty-out-of-range",
            f"The difficulty {difficulty:g} does not lie between 0 and 1.",
            "Give 0 for plainly visible, 1 for barely visible, or a number between them.",
        )
    return float(difficulty)


def between(easy: float, hard: float, difficulty: float) -> float:
    """The value at ``difficulty`` on the straight line from ``easy`` (0) to ``hard`` (1)."""
    return easy + (hard - easy) * difficulty


def between_by_ratio(easy: float, hard: float, difficulty: float) -> float:
    """As :func:`between` for positive values that grow by equal ratios, such as noise."""
    return easy * (hard / easy) ** difficulty
