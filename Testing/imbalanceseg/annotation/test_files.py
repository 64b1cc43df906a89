"""Annotations survive the way through a file; damaged files give a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from imbalanceseg.annotation.annotation import Annotation, ConfirmedSlice
from imbalanceseg.annotation.files import (
    CLASSES_KEY,
    CONFIRMED_KEY,
    VERSION_KEY,
    load_annotation,
    save_annotation,
)
from imbalanceseg.errors import GeometryError, ImbalanceSegError, InputError, OutputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import write_image
from imbalanceseg.labels import UNLABELLED

GRID = Grid((7, 6, 5), (0.5, 1.0, 4.0), (-10.0, 5.0, 30.0), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, -1))


@st.composite
def annotations(draw: st.DrawFn) -> Annotation:
    """Any labels, any finished slices, any grid: oblique, permuted, flipped."""
    angles = [draw(st.floats(-180, 180)) for _ in range(3)]
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    signed = np.diag([draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)])
    order = draw(st.permutations(range(3)))
    grid = Grid(
        size=tuple(draw(st.integers(1, 6)) for _ in range(3)),
        spacing_mm=tuple(draw(st.floats(0.2, 7.0)) for _ in range(3)),
        origin_mm=tuple(draw(st.floats(-500, 500)) for _ in range(3)),
        direction=tuple((turn @ signed)[:, order].ravel()),
    )
    annotation = Annotation(grid, draw(st.none() | st.sets(st.integers(1, 254), min_size=1)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    known = rng.random(annotation.labels.shape) < draw(st.sampled_from([0, 0.1, 1]))
    annotation.labels[known] = rng.integers(0, 255, known.sum())
    for axis in draw(st.lists(st.integers(0, 2), max_size=8)):
        annotation.confirm(axis, draw(st.integers(0, grid.size[axis] - 1)))
    return annotation


def require_same(one: Annotation, other: Annotation) -> None:
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.confirmed == other.confirmed
    assert one.classes == other.classes


@settings(deadline=None, max_examples=60)
@given(annotations(), st.sampled_from([".nrrd", ".seg.nrrd"]))
def test_round_trip(annotation: Annotation, ending: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"painted{ending}"
        save_annotation(annotation, path)
        alone, with_scan = load_annotation(path), load_annotation(path, annotation.image)
        assert [file.name for file in Path(folder).iterdir()] == [path.name]
    require_same(alone, annotation)
    require_same(with_scan, annotation)
    assert alone.grid.same_as(annotation.grid, 1e-6)
    assert with_scan.grid == annotation.grid


def painted() -> Annotation:
    annotation = Annotation(GRID, [1, 2])
    plane = np.full(GRID.size[1::-1], UNLABELLED, np.uint8)
    plane[2, 3] = 2
    annotation.paint_slice(2, 1, plane)
    return annotation


def with_header(folder: Path, **fields: str) -> Path:
    """A saved annotation with other fields in its header."""
    image = painted().image
    for key, value in fields.items():
        image.SetMetaData(key, value)
    write_image(image, folder / "painted.seg.nrrd")
    return folder / "painted.seg.nrrd"


def require_refusal(path: Path, code: str, scan: sitk.Image | None = None) -> ImbalanceSegError:
    with pytest.raises(ImbalanceSegError) as error:
        load_annotation(path, scan)
    assert error.value.code == code, str(error.value)
    assert error.value.message.endswith(".")
    assert len(error.value.message) < 300
    assert error.value.hint.endswith(".")
    return error.value


def test_the_header_is_plain_json(tmp_path: Path) -> None:
    save_annotation(painted(), tmp_path / "a.seg.nrrd")
    image = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
    assert image.GetPixelID() == sitk.sitkUInt8
    fields = {key: json.loads(image.GetMetaData(key)) for key in (VERSION_KEY, CONFIRMED_KEY)}
    assert fields == {VERSION_KEY: 1, CONFIRMED_KEY: [[2, 1]]}
    assert json.loads(image.GetMetaData(CLASSES_KEY)) == [1, 2]


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_a_plain_label_image_is_an_annotation(tmp_path: Path, ending: str, kind: type) -> None:
    labels = painted().labels.astype(kind)
    write_image(image_from_array(labels, GRID), tmp_path / f"labels{ending}")
    loaded = load_annotation(tmp_path / f"labels{ending}")
    np.testing.assert_array_equal(loaded.labels, labels)
    assert loaded.confirmed == []
    assert loaded.classes is None


def test_what_is_free_in_a_finished_slice_is_background(tmp_path: Path) -> None:
    loaded = load_annotation(with_header(tmp_path, **{CONFIRMED_KEY: "[[0,2],[0,2]]"}))
    assert loaded.confirmed == [ConfirmedSlice(0, 2)]
    assert (loaded.labels[:, :, 2] == 0).all()


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        (CONFIRMED_KEY, "[[2,1]", "annotation-header"),
        (CONFIRMED_KEY, "null", "annotation-header"),
        (CONFIRMED_KEY, '{"2": 1}', "annotation-header"),
        (CONFIRMED_KEY, "[2,1]", "annotation-header"),
        (CONFIRMED_KEY, "[[2]]", "annotation-header"),
        (CONFIRMED_KEY, "[[2,1.5]]", "annotation-header"),
        (CONFIRMED_KEY, "[[2,NaN]]", "annotation-header"),
        (CONFIRMED_KEY, "[[true,1]]", "annotation-header"),
        (CONFIRMED_KEY, '[["2","1"]]', "annotation-header"),
        (CONFIRMED_KEY, "[" * 100_000, "annotation-header"),
        (CONFIRMED_KEY, f"[[2,{'9' * 5000}]]", "annotation-header"),
        (CONFIRMED_KEY, json.dumps([[2, 1]] * 10_000), "annotation-header"),
        (CONFIRMED_KEY, "[[2,5]]", "slice-outside"),
        (CONFIRMED_KEY, "[[2,-1]]", "slice-outside"),
        (CONFIRMED_KEY, "[[3,0]]", "slice-outside"),
        (CONFIRMED_KEY, "[[-1,0]]", "slice-outside"),
        (CONFIRMED_KEY, f"[[2,{'9' * 400}]]", "slice-outside"),
        (CLASSES_KEY, "[]", "annotation-classes"),
        (CLASSES_KEY, "[0]", "annotation-header"),
        (CLASSES_KEY, "[255]", "annotation-header"),
        (CLASSES_KEY, '["airway"]', "annotation-header"),
        (CLASSES_KEY, "1", "annotation-header"),
        (VERSION_KEY, "2", "annotation-too-new"),
        (VERSION_KEY, "9" * 400, "annotation-too-new"),
        (VERSION_KEY, "0", "annotation-header"),
        (VERSION_KEY, "new", "annotation-header"),
        (VERSION_KEY, "1.5", "annotation-header"),
    ],
)
def test_hostile_headers(tmp_path: Path, key: str, value: str, code: str) -> None:
    require_refusal(with_header(tmp_path, **{key: value}), code)


def test_a_header_that_is_no_text(tmp_path: Path) -> None:
    path = with_header(tmp_path, **{CONFIRMED_KEY: "[[2,1]]"})
    path.write_bytes(path.read_bytes().replace(b"[[2,1]]", b"[[2,\xff]]"))
    require_refusal(path, "annotation-header")


@pytest.mark.parametrize("keep", [0, 40, 400, -20])
def test_truncated_files(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.seg.nrrd"
    annotation = Annotation(GRID)
    annotation.labels[...] = np.random.default_rng(0).integers(0, 255, annotation.labels.shape)
    save_annotation(annotation, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError) as error:
        load_annotation(path)
    assert error.value.code in ("file-empty", "image-unreadable", "image-damaged")


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        (np.int16, 256, "annotation-not-labels"),
        (np.int16, -1, "labels-out-of-range"),
        (np.float32, 0.5, "labels-not-whole"),
        (np.float32, np.nan, "labels-out-of-range"),
    ],
)
def test_images_that_are_no_labels(tmp_path: Path, kind: type, value: float, code: str) -> None:
    array = np.zeros(GRID.size[::-1], kind)
    array[1, 2, 3] = value
    write_image(image_from_array(array, GRID), tmp_path / "scan.nrrd")
    require_refusal(tmp_path / "scan.nrrd", code)


def test_another_grid_is_refused(tmp_path: Path) -> None:
    save_annotation(painted(), tmp_path / "a.nrrd")
    moved = GRID.cropped((1, 0, 0), GRID.size)
    scan = image_from_array(np.zeros(GRID.size[::-1], np.int16), moved)
    with pytest.raises(GeometryError) as error:
        load_annotation(tmp_path / "a.nrrd", scan)
    assert error.value.code == "grid-mismatch"
    assert "a.nrrd" in error.value.message
    assert "painted on this scan" in error.value.hint


def test_names_that_cannot_hold_an_annotation(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as error:
        save_annotation(painted(), tmp_path / "a.nii.gz")
    assert error.value.code == "annotation-format"
    with pytest.raises(OutputError) as missing:
        save_annotation(painted(), tmp_path / "nowhere" / "a.nrrd")
    assert missing.value.code == "output-folder-missing"
    require_refusal(tmp_path / "nowhere.nrrd", "path-not-found")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.seg.nrrd"
    save_annotation(painted(), path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("imbalanceseg.atomic.os.replace", full)
    with pytest.raises(OutputError) as error:
        save_annotation(Annotation(GRID), path)
    assert error.value.code == "disk-full"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
