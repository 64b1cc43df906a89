"""Volumes as streams: what is written is read back, and has the same address everywhere."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from imbalanceseg.errors import GeometryError, ImbalanceSegError, InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.nrrd_stream import VolumeHeader, case_id, parse_header, voxel_chunks

C, S = math.cos(0.3), math.sin(0.3)
OBLIQUE = Grid((5, 6, 7), (0.7, 0.9, 1 / 3), (-12.3, 1e-3, 400), (C, -S, 0, S, C, 0, 0, 0, 1))
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def volume(pixel_type: str = "int16", grid: Grid = OBLIQUE, seed: int = 0) -> sitk.Image:
    values = np.random.default_rng(seed).integers(0, 100, grid.size[::-1])
    return image_from_array(values.astype(pixel_type), grid)


@pytest.mark.parametrize("pixel_type", TYPES)
def test_what_is_written_is_read_by_itk_and_here(tmp_path: Path, pixel_type: str) -> None:
    image = volume(pixel_type)
    header = VolumeHeader.of([image])
    (tmp_path / "a.nrrd").write_bytes(header.text("raw") + b"".join(voxel_chunks([image])))
    read = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(image))
    assert Grid.of(read).same_as(OBLIQUE, 1e-9)
    parsed = parse_header((tmp_path / "a.nrrd").read_bytes())
    assert parsed is not None
    assert parsed.volume == header
    assert parsed.length == len(header.text("raw"))


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_scan_that_was_saved_and_read_has_its_address(tmp_path: Path, ending: str) -> None:
    image = volume("float32")
    sitk.WriteImage(image, str(tmp_path / f"a{ending}"))
    read = sitk.ReadImage(str(tmp_path / f"a{ending}"))
    assert case_id([read]) == case_id([image])


def test_every_difference_is_another_address() -> None:
    image = volume()
    moved = Grid(OBLIQUE.size, OBLIQUE.spacing_mm, (0, 0, 0), OBLIQUE.direction)
    others = [[volume(seed=1)], [volume("uint16")], [volume(grid=moved)], [image, image]]
    assert len({case_id(one) for one in [[image], *others]}) == 5


def test_channels_must_match() -> None:
    moved = Grid(OBLIQUE.size, OBLIQUE.spacing_mm, (0, 0, 0), OBLIQUE.direction)
    with pytest.raises(GeometryError):
        VolumeHeader.of([volume(), volume(grid=moved)])
    with pytest.raises(InputError, match="cannot be sent"):
        VolumeHeader.of([volume(), volume("float32")])
    with pytest.raises(InputError, match="cannot be sent"):
        VolumeHeader.of([volume("int64")])
    with pytest.raises(InputError, match="cannot be sent"):
        VolumeHeader.of([sitk.Image([4, 4, 4], sitk.sitkVectorUInt8)])


def test_fields_are_kept_apart() -> None:
    text = VolumeHeader.of([volume()]).text("gzip", {"A:B": "1: 2", "Patient": "x"})
    parsed = parse_header(text)
    assert parsed is not None
    assert parsed.fields == {"A:B": "1: 2", "Patient": "x"}
    assert parsed.encoding == "gzip"


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 400))
def test_junk_is_refused_or_read_but_never_worse(junk: bytes, start: int, stop: int) -> None:
    text = VolumeHeader.of([volume()]).text("raw")
    with contextlib.suppress(ImbalanceSegError):
        parse_header(text[:start] + junk + text[stop:])
