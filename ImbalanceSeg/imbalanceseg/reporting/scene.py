"""The scan and its result, turned so that drawing needs no geometry any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, require_same_grid
from imbalanceseg.inference.segmentation import Segmentation

_LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))
_OBLIQUE_FROM = 0.26
"""Direction cosine from which a second orientation letter is written: 15 degrees."""


@dataclass(frozen=True)
class Scene:
    """One case on axes that run nearest to left, posterior and superior.

    Attributes:
        image: intensities ``[z, y, x]``.
        labels: label values ``[z, y, x]``.
        heat: float map in [0, 1] ``[z, y, x]``, or None.
        heat_name: what the map is, for example ``"hardness"``.
        spacing_mm: voxel spacing along x, y, z.
        cosines: 3x3 directions of the axes in LPS.
        window: lowest and highest displayed intensity.
        focus: index (x, y, z) of the three displayed planes.
        sources: images whose memory the arrays are in, which must not go before them.
    """

    image: np.ndarray
    labels: np.ndarray
    heat: np.ndarray | None
    heat_name: str
    spacing_mm: tuple[float, float, float]
    cosines: np.ndarray
    window: tuple[float, float]
    focus: tuple[int, int, int]
    sources: tuple[sitk.Image, ...] = ()

    @classmethod
    def of(
        cls, image: sitk.Image, result: Segmentation, window: Mapping[str, float] | None
    ) -> Scene:
        """Turn a case for drawing; nothing is copied.

        Raises:
            GeometryError: the labels or the map do not lie on the image's grid.
        """
        require_same_grid(image, result.labels, ("image", "labels"))
        grid = Grid.of(image).oriented_lps()
        turned, labels = _turned(image), _turned(result.labels)
        heat, name = _heat_of(result)
        heat_array = None
        if heat is not None:
            require_same_grid(image, heat, ("image", f"{name} map"))
            heat_array = _turned(heat)
        return cls(
            image=turned,
            labels=labels,
            heat=heat_array,
            heat_name=name,
            spacing_mm=grid.spacing_mm,
            cosines=grid.matrix,
            window=_window(turned, window),
            focus=_focus(labels),
            sources=(image, result.labels) if heat is None else (image, result.labels, heat),
        )

    def letters(self, axis: int) -> tuple[str, str]:
        """Orientation letters at the low and the high end of an axis (0 x, 1 y, 2 z).

        Two letters stand where the axis leans more than 15 degrees towards a second direction.
        """
        column = self.cosines[:, axis]
        order = np.argsort(-np.abs(column))
        leaning = [a for n, a in enumerate(order) if n == 0 or abs(column[a]) > _OBLIQUE_FROM]
        low = "".join(_LETTERS[a][int(column[a] < 0)] for a in leaning[:2])
        high = "".join(_LETTERS[a][int(column[a] > 0)] for a in leaning[:2])
        return low, high


def _turned(image: sitk.Image) -> np.ndarray:
    """The voxels ``[z, y, x]`` on the axes of :meth:`Grid.oriented_lps`, in the image's memory."""
    grid = Grid.of(image)
    # Cosines between old axes (rows) and new ones: each new axis is an old one, maybe reversed.
    cosines = grid.matrix.T @ grid.oriented_lps().matrix
    old = np.abs(cosines).argmax(axis=0)
    reverse = cosines[old, range(3)] < 0
    array = sitk.GetArrayViewFromImage(image).transpose([2 - axis for axis in old[::-1]])
    return array[tuple(slice(None, None, -1 if back else 1) for back in reverse[::-1])]


def _heat_of(result: Segmentation) -> tuple[sitk.Image | None, str]:
    if result.hardness is not None:
        return result.hardness, "hardness"
    return result.attention, "attention"


def _window(array: np.ndarray, window: Mapping[str, float] | None) -> tuple[float, float]:
    if window:
        center, width = float(window["center"]), max(float(window["width"]), 1e-6)
        return center - width / 2, center + width / 2
    sample = array[:: max(1, array.shape[0] // 64), ::2, ::2]
    foreground = sample[sample > sample.min()]
    if foreground.size == 0:
        return float(sample.min()), float(sample.min()) + 1.0
    low, high = np.percentile(foreground, (0.5, 99.7))
    return float(low), float(max(high, low + 1e-6))


def _focus(labels: np.ndarray) -> tuple[int, int, int]:
    """For each axis the slice that shows most, or the middle of an empty image.

    A slice shows much when its labelled voxels are many and lie far apart: the measure is the sum
    of their distances to their common centre, which puts the hilum before a wide throat.
    """
    from scipy.ndimage import gaussian_filter1d

    places = np.nonzero(labels)
    if places[0].size == 0:
        return labels.shape[2] // 2, labels.shape[1] // 2, labels.shape[0] // 2
    focus = []
    for axis in (2, 1, 0):
        spread = _spread_by_slice(places, axis)
        focus.append(int(gaussian_filter1d(spread, 1.0, mode="constant").argmax()))
    return focus[0], focus[1], focus[2]


def _spread_by_slice(places: tuple[np.ndarray, ...], axis: int) -> np.ndarray:
    slices = places[axis]
    count = np.maximum(np.bincount(slices), 1)
    squared = np.zeros(slices.size)
    for other in range(3):
        if other != axis:
            mean = np.bincount(slices, weights=places[other]) / count
            squared += (places[other] - mean[slices]) ** 2
    return np.bincount(slices, weights=np.sqrt(squared) + 0.5)
