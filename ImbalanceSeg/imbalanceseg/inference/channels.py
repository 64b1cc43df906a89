"""The input of a model as scalar volumes, one a channel, whatever it was given as."""

from __future__ import annotations

from collections.abc import Sequence

import SimpleITK as sitk

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid
from imbalanceseg.models.card import ModelCard
from imbalanceseg.preprocessing.picture import as_slice, grey
from imbalanceseg.preprocessing.scan import check_scan


def input_channels(
    image: sitk.Image | Sequence[sitk.Image], card: ModelCard, model_name: str
) -> list[sitk.Image]:
    """One 3D scalar image a channel, all on one grid.

    A 2D model also takes 2D images, which become volumes of one slice; colours become grey where
    the model has one channel, and channels where it has several.

    Args:
        image: one image, or one a channel.
        card: says how many channels there are, and of how many dimensions.
        model_name: for messages.

    Raises:
        InputError: ``channels-missing`` where their number is not the model's, ``grid-mismatch``
            where they do not lie on one grid; as :func:`~.preprocessing.scan.check_scan`.
    """
    given = [image] if isinstance(image, sitk.Image) else list(image)
    flat = card.spatial_dims == 2
    if flat:
        given = [one for each in given for one in _flat_channels(each, len(card.channels))]
    if len(given) != len(card.channels):
        names = ", ".join(channel.name for channel in card.channels)
        raise InputError(
            "channels-missing",
            f"The {model_name} model needs {len(card.channels)} image(s) ({names}), "
            f"{len(given)} given.",
            "Give one image a channel, in this order (on the command line with --channel).",
        )
    for one in given:
        check_scan(one, one_slice=flat)
    first = Grid.of(given[0])
    for one, channel in zip(given, card.channels, strict=True):
        if not Grid.of(one).same_as(first):
            raise InputError(
                "grid-mismatch",
                f"The image {channel.name} does not lie on the grid of {card.channels[0].name}: "
                f"{Grid.of(one).difference_to(first)}.",
                "Register it and resample it onto the first image.",
            )
    return given


def slices_of(channels: Sequence[sitk.Image]) -> list[list[sitk.Image]]:
    """The axial slices of a volume, each with all channels, as volumes of one slice."""
    upright = [sitk.DICOMOrient(image, "LPS") for image in channels]
    depth = upright[0].GetDepth()
    return [[image[:, :, n : n + 1] for image in upright] for n in range(depth)]


def _flat_channels(image: sitk.Image, wanted: int) -> list[sitk.Image]:
    if image.GetDimension() != 2:
        return [image]
    count = image.GetNumberOfComponentsPerPixel()
    if count == 1:
        return [as_slice(image)]
    if wanted == 1:
        return [as_slice(grey(image))]
    return [as_slice(sitk.VectorIndexSelectionCast(image, n)) for n in range(count)]
