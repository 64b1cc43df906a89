"""A phantom for adaptation: bright balls among brighter rods, and some slices painted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.networks.unet3d import UNet3d

SHAPE = (28, 40, 40)


def phantom(seed: int = 0, classes: int = 1, rods: int = 3) -> tuple[sitk.Image, sitk.Image]:
    """A scan and its labels: balls of one or two kinds in noise; rods are background."""
    draw = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1)
    label = np.zeros(SHAPE, np.uint8)
    image = np.zeros(SHAPE)
    for number in range(10):
        centre = draw.uniform(4, np.array(SHAPE) - 4)
        ball = ((places - centre) ** 2).sum(-1) < draw.uniform(9, 22)
        label[ball] = 1 + number % classes
        image[ball] = 2.0 + 1.5 * (number % classes)
    for _ in range(rods):
        y, x = draw.integers(4, 36, 2)
        rod = ((places[..., 1] - y) ** 2 + (places[..., 2] - x) ** 2 < 3) & (label == 0)
        image[rod] = 5.0
    image = gaussian_filter(image, 0.6) + draw.normal(size=SHAPE) * 0.4
    scan, truth = (sitk.GetImageFromArray(x) for x in (image.astype(np.float32), label))
    for one in (scan, truth):
        one.SetSpacing((0.9, 0.9, 1.2))
        one.SetOrigin((-20.0, 7.0, 3.0))
    return scan, truth


def painted(truth: sitk.Image, slices: Sequence[int] = (6, 13, 20)) -> Annotation:
    """Axial slices copied from the labels."""
    annotation = Annotation.of(truth)
    labels = sitk.GetArrayViewFromImage(truth)
    for index in slices:
        annotation.paint_slice(2, index, labels[index])
    return annotation


def dice_elsewhere(found: sitk.Image, truth: sitk.Image, annotation: Annotation) -> float:
    """Mean Dice of the classes on what was not painted."""
    rest = ~annotation.known
    p, g = (sitk.GetArrayViewFromImage(x)[rest] for x in (found, truth))
    values = sorted(set(np.unique(g)) - {0})
    return float(
        np.mean(
            [2 * ((p == v) & (g == v)).sum() / ((p == v).sum() + (g == v).sum()) for v in values]
        )
    )


ONE_CHANNEL = {"features": (1, 1), "norm": "none", "out_channels": 1}
"""Of a U-Net whose weights are set by hand."""
CARD = {
    "network": {"name": "unet3d", "kwargs": ONE_CHANNEL},
    "spacing_mm": (1.0, 1.0, 1.0),
    "channels": ({"normalization": {"scheme": "range", "low": -2, "high": 6}},),
    "tile_voxels": (32, 32, 32),
}


def silent_network() -> UNet3d:
    """All weights 0."""
    network = UNet3d(**ONE_CHANNEL)
    for parameter in network.parameters():
        parameter.data.zero_()
    return network


def dark_network() -> UNet3d:
    """Sure of the wrong thing: it finds what is dark."""
    network = silent_network()
    first, second = network.down[0][0], network.down[0][3]
    first.weight.data[0, 0, 1, 1, 1], first.bias.data[0] = -1, 1
    second.weight.data[0, 0, 1, 1, 1] = 1
    network.merge[0][0].weight.data[0, 2, 1, 1, 1] = 1
    network.merge[0][3].weight.data[0, 0, 1, 1, 1] = 1
    network.head.weight.data[0, 0], network.head.bias.data[0] = 20, -10
    return network
