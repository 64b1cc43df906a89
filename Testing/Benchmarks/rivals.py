"""What a user would do with a few painted slices instead, with the tools they would use.

- Fill between slices: morphological contour interpolation (Albu et al., IEEE TBME 2008; Zukic et
  al., Insight Journal 2016), as in the Segment Editor of 3D Slicer.
- Grow from seeds: fast GrowCut (Zhu et al., 2014), over the whole scan and with its background.
- Pixel classification as in ilastik (Berg et al., Nature Methods 2019): a random forest on
  Gaussian-scale intensity features.

The first two are the classes behind Slicer's own effects, from ``slicer-core``; the last needs
``scikit-learn``. What was painted is kept as it is by all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.geometry import image_from_array
from imbalanceseg.metrics.masks import bounding_box

_SIGMAS = (0.7, 1.0, 1.6, 3.5, 5.0)
"""In voxels, as ilastik offers them."""
_REACH = 4
"""Filters end that many standard deviations from their middle."""
_MOST_BACKGROUND = 100_000
_CHUNK_VOXELS = 3_000_000
_TREES = 100
_MOST_SEEN = 0.9
"""Where a larger part is not 0, the zeros are values like others, as water in CT is."""

Rival = Callable[..., sitk.Image]
"""Takes the scan, the annotation and ``seed``, where anything is drawn at random."""


def fill_between_slices(image: sitk.Image, annotation: Annotation, seed: int = 0) -> sitk.Image:
    """Interpolate the shapes of the confirmed slices; the scan itself is not looked at."""
    import slicer

    finished = np.zeros(annotation.labels.shape, bool)
    for one in annotation.confirmed:
        finished[tuple(one.index if one.axis == 2 - n else slice(None) for n in range(3))] = True
    slices = np.where(finished & annotation.known, annotation.labels, 0).astype(np.uint8)
    axes = {one.axis for one in annotation.confirmed}
    if not slices.any():
        return _kept(slices, annotation)
    fill = slicer.vtkITKMorphologicalContourInterpolator()
    fill.SetInputData(_as_vtk(slices, image))
    # With slices along several axes the filter finds out itself which is which.
    fill.SetAxis(axes.pop() if len(axes) == 1 else -1)
    fill.Update()
    return _kept(_from_vtk(fill.GetOutput()), annotation)


def grow_from_seeds(image: sitk.Image, annotation: Annotation, seed: int = 0) -> sitk.Image:
    """Let every label grow, background too, from what is labelled until all is taken."""
    import slicer

    background = int(annotation.labels[annotation.known].max(initial=0)) + 1
    seeds = np.where(annotation.labels == 0, background, annotation.labels)
    seeds[~annotation.known] = 0

    grow = slicer.vtkImageGrowCutSegment()
    grow.SetIntensityVolume(_as_vtk(sitk.GetArrayViewFromImage(image), image))
    grow.SetSeedLabelVolume(_as_vtk(seeds, image))
    grow.Update()
    grown = _from_vtk(grow.GetOutput())
    return _kept(np.where(grown == background, 0, grown), annotation)


def random_forest(image: sitk.Image, annotation: Annotation, seed: int = 0) -> sitk.Image:
    """Classify every voxel by what it and its surroundings look like.

    Where a good part of the scan is exactly 0, that lies outside the extracted brain and is
    background.
    """
    from sklearn.ensemble import RandomForestClassifier

    values = sitk.GetArrayFromImage(image).astype(np.float32)
    seen = values != 0
    if seen.mean() > _MOST_SEEN:
        seen[...] = True
    box = bounding_box(seen)
    values, labels, seen = values[box], annotation.labels[box], seen[box]
    known = annotation.known[box] & seen
    found = np.zeros(annotation.labels.shape, np.uint8)
    if not known.any():
        return _kept(found, annotation)
    # Trees do not care for the unit, but products of large grey values leave float32.
    values /= values[seen].std() or 1
    slabs = list(_slabs(values, seen))
    rows = [features_of(values, slab)[known[slab]] for slab in slabs if known[slab].any()]
    x, y = np.concatenate(rows), np.concatenate([labels[slab][known[slab]] for slab in slabs])
    chosen, free = np.flatnonzero(y > 0), np.flatnonzero(y == 0)
    if len(free) > _MOST_BACKGROUND:
        free = np.random.default_rng(seed).choice(free, _MOST_BACKGROUND, replace=False)
    chosen = np.concatenate([chosen, free])
    forest = RandomForestClassifier(_TREES, n_jobs=2, random_state=seed).fit(x[chosen], y[chosen])
    inside = found[box]
    for slab in slabs:
        inside[slab][seen[slab]] = forest.predict(features_of(values, slab)[seen[slab]])
    return _kept(found, annotation)


def _slabs(values: NDArray, seen: NDArray) -> Iterator[slice]:
    """Axial slices that fit into memory with their features, and in which something is seen."""
    depth = max(1, _CHUNK_VOXELS // values[0].size)
    for first in range(0, len(values), depth):
        slab = slice(first, min(first + depth, len(values)))
        if seen[slab].any():
            yield slab


def features_of(values: NDArray, slab: slice) -> NDArray:
    """Features of some axial slices of a float32 volume, ``[z, y, x, feature]``.

    The grey value, then of each scale the smoothed value, gradient magnitude, Laplacian and the
    eigenvalues of the Hessian matrix and of the structure tensor, descending.
    """
    halo = int(np.ceil(1.5 * _REACH * max(_SIGMAS))) + 2
    low = max(0, slab.start - halo)
    values = values[low : slab.stop + halo]
    within = slice(slab.start - low, slab.stop - low)
    pairs = [(a, b) for a in range(3) for b in range(a, 3)]
    found = [values[within]]
    for sigma in _SIGMAS:
        smooth = ndimage.gaussian_filter(values, sigma, truncate=_REACH)
        gradient = [_derivative(smooth, axis) for axis in range(3)]
        second = {(a, b): _derivative(gradient[a], b)[within] for a, b in pairs}
        tensor = {
            (a, b): ndimage.gaussian_filter(gradient[a] * gradient[b], sigma / 2)[within]
            for a, b in pairs
        }
        found += [
            smooth[within],
            np.sqrt(sum(g[within] ** 2 for g in gradient)),
            second[0, 0] + second[1, 1] + second[2, 2],
            *eigenvalues(second),
            *eigenvalues(tensor),
        ]
    return np.stack(found, -1)


def eigenvalues(matrix: dict[tuple[int, int], NDArray]) -> list[NDArray]:
    """Of symmetric 3x3 matrices, descending, in closed form (Smith, CACM 1961)."""
    a, b, c = matrix[0, 0], matrix[1, 1], matrix[2, 2]
    d, e, f = matrix[0, 1], matrix[0, 2], matrix[1, 2]
    mean = (a + b + c) / 3
    a, b, c = a - mean, b - mean, c - mean
    size = np.sqrt((a**2 + b**2 + c**2 + 2 * (d**2 + e**2 + f**2)) / 6)
    determinant = a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)
    angle = np.arccos(np.clip(determinant / (2 * np.maximum(size, 1e-12) ** 3), -1, 1)) / 3
    high = mean + 2 * size * np.cos(angle)
    low = mean + 2 * size * np.cos(angle + 2 * np.pi / 3)
    return [high, 3 * mean - high - low, low]


def _derivative(values: NDArray, axis: int) -> NDArray:
    return np.gradient(values, axis=axis) if values.shape[axis] > 1 else np.zeros_like(values)


def _as_vtk(voxels: NDArray, image: sitk.Image) -> Any:
    """A volume of VTK with the spacing of the scan, along the axes of its voxels."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    volume = vtk.vtkImageData()
    volume.SetDimensions(voxels.shape[::-1])
    volume.SetSpacing(image.GetSpacing())
    volume.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(voxels).ravel(), deep=True))
    return volume


def _from_vtk(volume: Any) -> NDArray:
    from vtk.util.numpy_support import vtk_to_numpy

    return vtk_to_numpy(volume.GetPointData().GetScalars()).reshape(volume.GetDimensions()[::-1])


def _kept(found: NDArray, annotation: Annotation) -> sitk.Image:
    labels = np.where(annotation.known, annotation.labels, found).astype(np.uint8)
    return image_from_array(labels, annotation.grid)


RIVALS: dict[str, Rival] = {
    "fill between slices": fill_between_slices,
    "grow from seeds": grow_from_seeds,
    "random forest": random_forest,
}
