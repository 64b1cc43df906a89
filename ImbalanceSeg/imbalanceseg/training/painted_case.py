"""One painted scan as a case that training patches are taken from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imbalanceseg.labels import UNLABELLED
from imbalanceseg.planning.prepare import PreparedCase

_MOST_PLACES = 20_000


class PaintedCase(PreparedCase):
    """A scan in memory with sparse labels; no instances, but what a network was sure of.

    Args:
        image: ``[C, Z, Y, X]`` along the network's axes, normalised.
        labels: uint8 ``[Z, Y, X]``, 255 unlabelled.
        kept: ``[Z, Y, X]``, what the network was sure of plus 1, and 0 elsewhere; given as the
            "components" of a patch, which are moved as labels are.
    """

    def __init__(
        self, image: NDArray[np.float32], labels: NDArray[np.uint8], kept: NDArray[np.int32]
    ) -> None:
        super().__init__("painted", Path(), labels.shape)
        place = np.argwhere(labels != UNLABELLED).astype(np.int32)
        step = max(1, len(place) // _MOST_PLACES)
        classes = labels[tuple(place.T)]
        # Of background a sample is enough; foreground may be rare.
        place = np.concatenate([place[classes > 0], place[classes == 0][::step]])
        classes = labels[tuple(place.T)].astype(np.int32)
        for name, value in (
            ("_image", image),
            ("_labels", labels),
            ("_kept", kept),
            ("places", {"annotated": np.column_stack([classes, place])}),
        ):
            self.__dict__[name] = value

    def image(self, window: Sequence[slice] = ()) -> NDArray[np.float32]:
        """See :class:`~imbalanceseg.planning.prepare.PreparedCase`."""
        return np.asarray(self.__dict__["_image"][(slice(None), *window)])

    def label(self, window: Sequence[slice] = ()) -> NDArray[np.uint8]:
        """See :class:`~imbalanceseg.planning.prepare.PreparedCase`."""
        return np.asarray(self.__dict__["_labels"][tuple(window) or slice(None)])

    def components(self, window: Sequence[slice] = ()) -> NDArray[np.int32]:
        """What the network was sure of plus 1."""
        return np.asarray(self.__dict__["_kept"][tuple(window) or slice(None)])
