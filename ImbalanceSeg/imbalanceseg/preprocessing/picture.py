"""2D images, such as microscopy pictures, as volumes of one slice."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from imbalanceseg.errors import InputError
from imbalanceseg.reading import quiet_readers, require_memory


def read_picture(path: Path) -> sitk.Image | None:
    """A 2D image with one or several values a pixel; None where the file is no 2D image.

    Raises:
        InputError: ``image-damaged``; ``image-too-large`` where it does not fit into memory.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with quiet_readers():
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            return None
        if reader.GetDimension() != 2:
            return None
        width, height = reader.GetSize()
        require_memory(16 * width * height * reader.GetNumberOfComponents(), f"{path.name}")
        try:
            return reader.Execute()
        except (RuntimeError, MemoryError) as error:
            raise InputError(
                "image-damaged",
                f"The pixels of {path.name} are damaged, incomplete or missing.",
                "Copy or export the image again.",
            ) from error


def as_slice(image: sitk.Image) -> sitk.Image:
    """A scalar 2D image as a volume of one slice, its pixels in the file's order.

    What a header says of the direction of a picture's axes is dropped.
    """
    volume = sitk.JoinSeries(image)
    volume.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, 1))
    return volume


def grey(image: sitk.Image) -> sitk.Image:
    """The mean of red, green and blue as float32; scalar images as they are."""
    count = image.GetNumberOfComponentsPerPixel()
    if count == 1:
        return image
    # A fourth value is opacity.
    parts = [
        sitk.VectorIndexSelectionCast(image, n, sitk.sitkFloat32) for n in range(min(count, 3))
    ]
    return sum(parts[1:], parts[0]) / len(parts)
