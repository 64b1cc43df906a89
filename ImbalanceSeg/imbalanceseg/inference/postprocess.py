"""From the probability of a scan to its labelmap, and what of it is kept, as a card says."""

from __future__ import annotations

import cc3d
import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.models.card import ModelCard
from imbalanceseg.preprocessing.trachea import tracheal_column


def labelmap_from_probability(
    probability: sitk.Image, scan: sitk.Image, card: ModelCard, threshold: float | None = None
) -> sitk.Image:
    """Threshold, then keep the one structure that the card asks for.

    Args:
        probability: float32 foreground probability on the grid of ``scan``.
        scan: the image it was computed from, in which a root such as the trachea is looked for.
        card: says ``threshold``, ``root``, ``largest_component_of`` and ``connectivity``.
        threshold: instead of the card's.

    Returns:
        uint8 labelmap on the same grid, 0 and 1.
    """
    threshold = card.threshold if threshold is None else threshold
    found = sitk.GetArrayViewFromImage(probability) > threshold
    root = tracheal_column(scan) if card.root == "trachea" else None
    if root is not None:
        found = _hanging_on(found, sitk.GetArrayViewFromImage(root) > 0)
    elif card.largest_component_of:
        found = cc3d.largest_k(found, k=1, connectivity=card.connectivity) > 0
    return image_from_array(found.astype(np.uint8), Grid.of(probability))


def cleaned_labels(labels: sitk.Image, card: ModelCard) -> sitk.Image:
    """Keep the largest component of each label of which the card says so.

    Args:
        labels: uint8 labelmap of several segments.
        card: says ``largest_component_of`` and ``connectivity``.
    """
    if not card.largest_component_of:
        return labels
    array = sitk.GetArrayFromImage(labels)
    for label in card.largest_component_of:
        found = array == label
        largest = cc3d.largest_k(found, k=1, connectivity=card.connectivity) > 0
        array[found & ~largest] = 0
    return image_from_array(array, Grid.of(labels))


def _hanging_on(found: np.ndarray, root: np.ndarray) -> np.ndarray:
    """The part of ``found`` and ``root`` that is 6-connected to most of the root."""
    joined = cc3d.connected_components(found | root, connectivity=6)
    sizes = np.bincount(joined[root])
    tree: np.ndarray = joined == sizes.argmax()
    return tree
