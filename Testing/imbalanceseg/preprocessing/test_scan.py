"""What no model can segment is refused in one sentence."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.errors import InputError
from imbalanceseg.preprocessing.scan import check_scan


def scan(dtype: type = np.float32) -> sitk.Image:
    values = np.random.default_rng(0).integers(0, 100, (4, 5, 6)).astype(dtype)
    return sitk.GetImageFromArray(values)


def with_value(value: float) -> sitk.Image:
    image = scan()
    image[1, 2, 3] = value
    return image


def with_geometry(name: str, value: tuple[float, ...]) -> sitk.Image:
    image = scan()
    getattr(image, f"Set{name}")(value)
    return image


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_a_scan_of_any_number_type_passes(dtype: type) -> None:
    check_scan(scan(dtype))


def test_an_oblique_scan_passes() -> None:
    c, s = np.cos(0.3), np.sin(0.3)
    check_scan(with_geometry("Direction", (c, -s, 0, s, c, 0, 0, 0, -1)))


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (sitk.Image([5, 5], sitk.sitkInt16), "image-not-3d"),
        (sitk.Image([5, 5, 5, 2], sitk.sitkInt16), "image-not-3d"),
        (sitk.Image([5, 5, 5], sitk.sitkVectorUInt8, 3), "image-not-scalar"),
        (sitk.Image([5, 5, 5], sitk.sitkComplexFloat32), "image-not-scalar"),
        (sitk.Image([5, 5, 1], sitk.sitkInt16), "image-too-thin"),
        (sitk.Image([5, 5, 5], sitk.sitkInt16), "image-constant"),
        (sitk.Image([5, 5, 5], sitk.sitkFloat32) + 3.5, "image-constant"),
        (with_value(float("nan")), "image-not-finite"),
        (with_value(float("inf")), "image-not-finite"),
        (with_value(float("-inf")), "image-not-finite"),
        (sitk.Image([5, 5, 5], sitk.sitkFloat32) * float("nan"), "image-not-finite"),
        (with_geometry("Origin", (0, float("nan"), 0)), "geometry-singular"),
        (with_geometry("Direction", (1, 0.5, 0, 0, 1, 0, 0, 0, 1)), "geometry-singular"),
    ],
)
def test_what_cannot_be_segmented_is_refused(image: sitk.Image, code: str) -> None:
    with pytest.raises(InputError) as caught:
        check_scan(image)
    assert caught.value.code == code
    assert "\n" not in caught.value.message
    assert caught.value.message.endswith(".")
    assert caught.value.hint
