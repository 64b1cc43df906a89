"""2D images: read as they are, as one slice, grey where colours are not wanted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.errors import InputError
from imbalanceseg.preprocessing.picture import as_slice, grey, read_picture


def coloured() -> sitk.Image:
    values = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    return sitk.GetImageFromArray(values, isVector=True)


def test_pictures_are_read_and_volumes_are_left(tmp_path: Path) -> None:
    sitk.WriteImage(coloured(), str(tmp_path / "a.png"))
    read = read_picture(tmp_path / "a.png")
    assert read is not None
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(coloured()))
    sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkUInt8), str(tmp_path / "a.nrrd"))
    (tmp_path / "a.txt").write_text("no image")
    assert read_picture(tmp_path / "a.nrrd") is None
    assert read_picture(tmp_path / "a.txt") is None


def test_a_damaged_picture_is_told_of(tmp_path: Path) -> None:
    sitk.WriteImage(grey(coloured()), str(tmp_path / "a.mha"))
    data = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "a.mha").write_bytes(data[:-500])
    with pytest.raises(InputError) as caught:
        read_picture(tmp_path / "a.mha")
    assert caught.value.code == "image-damaged"


def test_grey_is_the_mean_of_the_colours_as_one_slice() -> None:
    volume = as_slice(grey(coloured()))
    assert volume.GetSize() == (30, 20, 1)
    np.testing.assert_allclose(
        sitk.GetArrayFromImage(volume)[0], sitk.GetArrayFromImage(coloured()).mean(-1), rtol=1e-5
    )
