"""Which cases of a dataset one training learns from, and which it is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imbalanceseg.planning.prepare import PreparedCase


@dataclass(frozen=True)
class Split:
    """Cases of one training.

    Attributes:
        training: learned from.
        validation: judged on; may be empty, then the last weights are kept.
        unlabelled: learned from as the recipe says; may be empty.
    """

    training: Sequence[PreparedCase]
    validation: Sequence[PreparedCase]
    unlabelled: Sequence[PreparedCase] = ()
