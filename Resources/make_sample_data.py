"""Makes the phantoms that the Slicer module offers as sample data, with their thumbnails.

    python Resources/make_sample_data.py

writes into ``ImbalanceSeg/Resources/SampleData`` and prints the checksums that
``ImbalanceSegLib/Logic/SampleData.py`` has to hold. Takes about a minute.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "ImbalanceSeg"))

FOLDER = ROOT / "ImbalanceSeg" / "Resources" / "SampleData"
THUMBNAIL_PIXELS = (260, 280)


@dataclass(frozen=True)
class Sample:
    """One phantom, and what of it is kept.

    Attributes:
        make: the phantom and its exact labels.
        size: voxels that are kept around the structure (i, j, k); None for all.
        step: distance of the grey values that are kept; coarser ones compress better.
        limits: grey values are cut to them.
        view: axis that the thumbnail is taken along (0 sagittal, 1 coronal, 2 axial), and whether
            the darkest value is shown instead of a slice.
    """

    make: Callable[[], tuple[sitk.Image, sitk.Image]]
    size: tuple[int, int, int] | None
    step: int
    limits: tuple[int, int]
    view: tuple[int, bool]


def airway() -> tuple[sitk.Image, sitk.Image]:
    from imbalanceseg.synthesis.airway import chest_phantom

    return chest_phantom(1, spacing_mm=1.2, difficulty=0.2)


def tumor() -> tuple[sitk.Image, sitk.Image]:
    from imbalanceseg.synthesis.tumor import tumor_phantom

    return tumor_phantom(1, "glioma", "T1c", (1.0, 1.0, 4.0), difficulty=0.3)


def lesion() -> tuple[sitk.Image, sitk.Image]:
    from imbalanceseg.synthesis.lesions import lesion_phantom

    return lesion_phantom(1, 1.5, difficulty=0.3, brain_only=True)


SAMPLES = {
    "airway": Sample(airway, (96, 80, 112), 10, (-1000, 400), (1, True)),
    "tumor": Sample(tumor, (128, 144, 32), 4, (0, 4000), (2, False)),
    "lesion": Sample(lesion, None, 1, (0, 4000), (2, False)),
}


def sample_image(sample: Sample) -> tuple[sitk.Image, sitk.Image]:
    """The phantom as it is shipped, int16, and its labels on the same grid."""
    image, labels = sample.make()
    window = _window(labels, sample.size)
    image, labels = image[window], labels[window]
    values = sitk.GetArrayFromImage(image).astype(np.float64)
    rounded = np.rint(values / sample.step) * sample.step
    kept = sitk.GetImageFromArray(np.clip(rounded, *sample.limits).astype(np.int16))
    kept.CopyInformation(image)
    return kept, labels


def thumbnail(sample: Sample, image: sitk.Image, labels: sitk.Image) -> Image.Image:
    """A slice, or the darkest value along an axis, drawn to scale on black."""
    axis, darkest = sample.view
    values, found = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(labels) > 0
    if darkest:
        plane = values.min(axis=2 - axis)
    else:
        others = tuple(n for n in range(3) if n != 2 - axis)
        plane = values.take(int(found.sum(axis=others).argmax()), axis=2 - axis)
    spacing = [image.GetSpacing()[n] for n in range(3) if n != axis]
    if axis != 2:
        # Rows run from head to feet.
        plane = plane[::-1]
    low, high = np.percentile(plane[plane > plane.min()], (1, 99.5))
    grey = (np.clip((plane - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
    size = np.array([grey.shape[1] * spacing[0], grey.shape[0] * spacing[1]])
    size = np.rint(size * (np.array(THUMBNAIL_PIXELS) / size).min()).astype(int)
    drawn = Image.fromarray(grey).resize((int(size[0]), int(size[1])), Image.Resampling.BICUBIC)
    canvas = Image.new("L", THUMBNAIL_PIXELS)
    canvas.paste(drawn, tuple(int(n) for n in (np.array(THUMBNAIL_PIXELS) - size) // 2))
    return canvas


def _window(labels: sitk.Image, size: tuple[int, int, int] | None) -> tuple[slice, ...]:
    """Voxels around the middle of the structure, as an index of an image."""
    whole = labels.GetSize()
    if size is None:
        return tuple(slice(0, n) for n in whole)
    found = np.argwhere(sitk.GetArrayViewFromImage(labels) > 0)[:, ::-1]
    middle = np.rint(np.median(found, axis=0)).astype(int)
    starts = np.clip(middle - np.array(size) // 2, 0, np.maximum(0, np.array(whole) - size))
    return tuple(slice(int(a), int(a + n)) for a, n in zip(starts, size, strict=True))


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, sample in SAMPLES.items():
        image, labels = sample_image(sample)
        path = FOLDER / f"{name}_phantom.nrrd"
        sitk.WriteImage(image, str(path), True)
        thumbnail(sample, image, labels).save(FOLDER / f"{name}_phantom.png", optimize=True)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, SHA256:{digest}")


if __name__ == "__main__":
    main()
