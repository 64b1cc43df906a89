"""Prepared cases: exact where nothing changes, in their place where it does, never half there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.errors import OutputError
from imbalanceseg.planning import prepare as module
from imbalanceseg.planning.dataset import CaseArrays, Dataset, open_dataset, read_case
from imbalanceseg.planning.fingerprint import fingerprint
from imbalanceseg.planning.plan import Plan, make_plan
from imbalanceseg.planning.prepare import prepare, prepared_arrays

pytest.importorskip("blosc2")

SPACING = (0.5, 0.5, 3.0)
SHAPE = (8, 40, 48)


def write(path: Path, values: np.ndarray, spacing: tuple[float, ...] = SPACING) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing[: image.GetDimension()])
    sitk.WriteImage(image, str(path))


def scan(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, SHAPE).astype(np.float32)


def label() -> np.ndarray:
    values = np.zeros(SHAPE, np.uint8)
    values[2:5, 10:20, 10:20] = 1
    values[6, 30:33, 30:33] = 1
    values[1:3, 25:35, 20:25] = 4
    values[7] = 255
    return values


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    for number, name in enumerate(("a", "b c/ä".replace("/", "_"))):
        write(tmp_path / "set" / "images" / f"{name}.nrrd", scan(number))
        write(tmp_path / "set" / "labels" / f"{name}.nrrd", label())
    return open_dataset(tmp_path / "set")


@pytest.fixture
def plan(dataset: Dataset) -> Plan:
    return make_plan(dataset, fingerprint(dataset))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "prepared"
    folder.mkdir()
    return folder


def test_nothing_is_resampled_that_has_the_spacing(dataset: Dataset, plan: Plan) -> None:
    arrays = prepared_arrays(read_case(dataset, dataset.cases[0]), plan)
    values = scan(0)
    np.testing.assert_allclose(
        arrays.image[0], (values - values.mean()) / values.std(), rtol=1e-4, atol=1e-5
    )
    # the values 1 and 4 are the classes 1 and 2
    expected = np.where(label() == 4, 2, label())
    np.testing.assert_array_equal(arrays.label, expected)
    assert arrays.components.max() == 3
    assert len(np.unique(arrays.components[arrays.label == 1])) == 2


def test_a_window_is_the_part_of_the_whole(dataset: Dataset, plan: Plan, store: Path) -> None:
    case = prepare(dataset, plan, store)[0]
    arrays = prepared_arrays(read_case(dataset, dataset.cases[0]), plan)
    window = (slice(2, 7), slice(5, 38), slice(0, 48))
    np.testing.assert_array_equal(case.image(window), arrays.image[(slice(None), *window)])
    np.testing.assert_array_equal(case.label(window), arrays.label[window])
    np.testing.assert_array_equal(case.components(window), arrays.components[window])
    np.testing.assert_array_equal(case.label(), arrays.label)
    assert case.shape == arrays.label.shape


def test_places_are_where_they_say(dataset: Dataset, plan: Plan, store: Path) -> None:
    case = prepare(dataset, plan, store)[0]
    labels, components = case.label(), case.components()
    for kind, values in (("foreground", labels), ("instance", components), ("annotated", labels)):
        places = case.places[kind]
        np.testing.assert_array_equal(values[tuple(places[:, 1:].T)], places[:, 0])
    assert set(case.places["foreground"][:, 0]) == {1, 2}
    assert set(case.places["instance"][:, 0]) == {1, 2, 3}
    assert set(case.places["annotated"][:, 0]) == {0, 1, 2}
    counts = np.bincount(case.places["instance"][:, 0])[1:]
    assert counts.max() == module._PLACES_A_COMPONENT
    # The smallest has 9 voxels, all of which are there.
    assert counts.min() == 9


def test_of_a_large_case_only_some_background_is_looked_at(
    dataset: Dataset, plan: Plan, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare(dataset, plan, store)[0].places["annotated"]
    monkeypatch.setattr(module, "_MOST_BACKGROUND_VOXELS", 100)
    (store / "other").mkdir()
    case = prepare(dataset, plan, store / "other")[0]
    some = case.places["annotated"]
    np.testing.assert_array_equal(case.label()[tuple(some[:, 1:].T)], some[:, 0])
    assert 50 < (some[:, 0] == 0).sum() <= 100
    for value in (1, 2):
        assert (some[:, 0] == value).sum() == (whole[:, 0] == value).sum() > 0


def test_images_are_resampled_to_where_they_lie(tmp_path: Path) -> None:
    """A ramp along each axis stays that ramp in mm, and a block keeps its volume."""
    z, y, x = np.indices((20, 40, 30)).astype(np.float32)
    for name, spacing in (("fine", (1.0, 1.0, 1.0)), ("coarse", (2.0, 1.5, 1.0))):
        block = ((abs(z - 10) < 5) & (abs(y - 20) < 8) & (abs(x - 15) < 6)).astype(np.uint8)
        write(tmp_path / name / "images" / "a.nrrd", 1000 + x * spacing[0], spacing)
        write(tmp_path / name / "labels" / "a.nrrd", block, spacing)
    target = open_dataset(tmp_path / "fine")
    plan = make_plan(target, fingerprint(target))
    source = open_dataset(tmp_path / "coarse")
    case = read_case(source, source.cases[0])
    arrays = prepared_arrays(case, plan)
    assert arrays.label.shape == (20, 60, 60)
    along = arrays.image[0, 10, 30]
    steps = np.diff(along[6:-6])
    np.testing.assert_allclose(steps, steps.mean(), rtol=0.02)
    volume = float((arrays.label == 1).sum())
    assert case.label is not None
    assert volume == pytest.approx(float(case.label.sum()) * 3.0, rel=0.03)
    assert set(np.unique(arrays.label)) <= {0, 1}


class TestCubicLabels:
    """The early preset: labels resampled class by class."""

    @pytest.fixture
    def balls(self, tmp_path: Path) -> Dataset:
        z, y, x = np.indices((24, 24, 24))
        values = np.zeros((24, 24, 24), np.uint8)
        values[(z - 12) ** 2 + (y - 12) ** 2 + (x - 7) ** 2 < 25] = 1
        values[(z - 12) ** 2 + (y - 12) ** 2 + (x - 16) ** 2 < 25] = 2
        values[:3] = 255
        write(tmp_path / "images" / "a.nrrd", 9 + values.astype(np.float32), (2.0, 2.0, 2.0))
        write(tmp_path / "labels" / "a.nrrd", values, (2.0, 2.0, 2.0))
        return open_dataset(tmp_path)

    @staticmethod
    def _arrays(dataset: Dataset, **changes: Any) -> Any:
        plan = make_plan(dataset, fingerprint(dataset), preset="early")
        changed = plan.model_copy(update=changes)
        return prepared_arrays(read_case(dataset, dataset.cases[0]), changed)

    def test_nothing_changes_on_the_same_grid(self, balls: Dataset) -> None:
        arrays = self._arrays(balls)
        nearest = self._arrays(balls, label_interpolation="nearest")
        np.testing.assert_array_equal(arrays.label, nearest.label)
        np.testing.assert_array_equal(arrays.components, nearest.components)

    def test_a_ball_is_rounder_than_by_the_nearest_voxel(self, balls: Dataset) -> None:
        fine = {"spacing_mm": (0.8, 0.8, 0.8)}
        cubic = self._arrays(balls, **fine).label
        nearest = self._arrays(balls, **fine, label_interpolation="nearest").label
        assert set(np.unique(cubic)) == {0, 1, 2, 255}
        np.testing.assert_array_equal(cubic == 255, nearest == 255)
        z, y, x = (np.indices(cubic.shape) + 0.5) * 0.4 - 0.5
        for value, middle in ((1, 7), (2, 16)):
            distance = np.sqrt((z - 12) ** 2 + (y - 12) ** 2 + (x - middle) ** 2)
            ball = distance <= (3 * 485 / (4 * np.pi)) ** (1 / 3)
            wrong = [int(((each == value) != ball).sum()) for each in (cubic, nearest)]
            assert wrong[0] < wrong[1]

    def test_components_are_those_of_the_label(self, balls: Dataset) -> None:
        arrays = self._arrays(balls, spacing_mm=(0.8, 0.8, 0.8))
        foreground = (arrays.label != 0) & (arrays.label != 255)
        np.testing.assert_array_equal(arrays.components > 0, foreground)
        for value in (1, 2):
            assert len(np.unique(arrays.components[arrays.label == value])) == 1

    def test_numbered_instances_keep_their_numbers(self, tmp_path: Path) -> None:
        numbers = np.zeros((20, 20, 20), np.uint16)
        numbers[4:12, 4:10, 4:12], numbers[4:12, 10:16, 4:12] = 7, 300
        write(tmp_path / "images" / "a.nrrd", 9.0 + (numbers > 0), (2.0, 2.0, 2.0))
        write(tmp_path / "labels" / "a.nrrd", numbers, (2.0, 2.0, 2.0))
        arrays = self._arrays(open_dataset(tmp_path, numbered=True), spacing_mm=(0.7, 0.7, 0.7))
        assert set(np.unique(arrays.components)) == {0, 7, 300}
        np.testing.assert_array_equal(arrays.components > 0, arrays.label == 1)

    def test_thick_slices_are_not_mixed(self, balls: Dataset) -> None:
        arrays = self._arrays(balls, spacing_mm=(1.0, 0.8, 0.8), anisotropic=True)
        np.testing.assert_array_equal(arrays.label[::2], arrays.label[1::2])

    def test_another_interpolation_has_another_folder(self, balls: Dataset, store: Path) -> None:
        plan = make_plan(balls, fingerprint(balls))
        prepare(balls, plan, store)
        prepare(balls, plan.model_copy(update={"label_interpolation": "cubic"}), store)
        assert len(list(store.iterdir())) == 2


def test_thick_slices_are_not_mixed(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 1, (6, 32, 32)).astype(np.float32) + 10
    write(tmp_path / "images" / "a.nrrd", values, (1.0, 1.0, 8.0))
    write(tmp_path / "labels" / "a.nrrd", (values > 11).astype(np.uint8), (1.0, 1.0, 8.0))
    dataset = open_dataset(tmp_path)
    plan = make_plan(dataset, fingerprint(dataset)).model_copy(
        update={"spacing_mm": (4.0, 1.0, 1.0), "anisotropic": True}
    )
    image = prepared_arrays(read_case(dataset, dataset.cases[0]), plan).image[0]
    assert image.shape == (12, 32, 32)
    np.testing.assert_array_equal(image[::2], image[1::2])


def test_the_axis_across_slices_comes_first(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(9, 1, (40, 36, 6)).astype(np.float32)
    mask = np.zeros(values.shape, np.uint8)
    mask[10:20, 10:20, 1:3] = 1
    write(tmp_path / "images" / "sagittal.nrrd", values, (6.0, 1.0, 1.0))
    write(tmp_path / "labels" / "sagittal.nrrd", mask, (6.0, 1.0, 1.0))
    dataset = open_dataset(tmp_path)
    plan = make_plan(dataset, fingerprint(dataset))
    arrays = prepared_arrays(read_case(dataset, dataset.cases[0]), plan)
    assert arrays.label.shape == (6, 40, 36)
    np.testing.assert_array_equal(arrays.label, mask.transpose(2, 0, 1))


def test_flat_cases_have_two_axes(tmp_path: Path, store: Path) -> None:
    numbers = np.zeros((40, 50), np.uint16)
    numbers[5:15, 5:15], numbers[15:25, 5:15] = 1, 300
    write(
        tmp_path / "images" / "a.png", np.full((40, 50), 7, np.uint8) + (numbers > 0) * np.uint8(90)
    )
    write(tmp_path / "labels" / "a.png", numbers)
    dataset = open_dataset(tmp_path, numbered=True)
    plan = make_plan(dataset, fingerprint(dataset))
    (case,) = prepare(dataset, plan, store)
    assert case.shape == (40, 50)
    assert case.image((slice(0, 9), slice(3, 9))).shape == (1, 9, 6)
    assert set(case.places["instance"][:, 0]) == {1, 300}
    assert set(np.unique(case.label())) == {0, 1}


class TestAgain:
    @pytest.fixture
    def counted(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        names: list[str] = []

        def counting(dataset: Dataset, case: Any) -> CaseArrays:
            names.append(case.name)
            return read_case(dataset, case)

        monkeypatch.setattr(module, "read_case", counting)
        return names

    def test_what_is_ready_is_taken_as_it_is(self, dataset, plan, store, counted) -> None:
        first = prepare(dataset, plan, store)
        assert prepare(dataset, plan, store) == first
        assert len(counted) == 2

    def test_a_changed_file_is_prepared_again(self, dataset, plan, store, counted) -> None:
        prepare(dataset, plan, store)
        os.utime(dataset.cases[0].images[0], ns=(1, 1))
        prepare(dataset, plan, store)
        assert counted == ["a", dataset.cases[1].name, "a"]

    def test_weights_are_kept_until_the_case_changes(self, dataset, plan, store) -> None:
        case = prepare(dataset, plan, store)[0]
        weight = np.random.default_rng(0).random(case.shape, np.float32)
        case.keep_weight("border", weight)
        assert not case.has_weight("centerline")
        again = prepare(dataset, plan, store)[0]
        assert again.has_weight("border")
        np.testing.assert_array_equal(again.weight("border"), weight)
        window = (slice(1, 3),) * len(case.shape)
        np.testing.assert_array_equal(again.weight("border", window), weight[window])
        os.utime(dataset.cases[0].images[0], ns=(1, 1))
        assert not prepare(dataset, plan, store)[0].has_weight("border")

    def test_another_plan_has_another_folder(self, dataset, plan, store, counted) -> None:
        prepare(dataset, plan, store)
        prepare(dataset, plan.model_copy(update={"spacing_mm": (3.0, 1.0, 1.0)}), store)
        assert len(counted) == 4
        # The loss has no part in it.
        prepare(dataset, plan.model_copy(update={"loss": "dice"}), store)
        assert len(counted) == 4
        assert len(list(store.iterdir())) == 2

    def test_an_interrupted_case_is_begun_again(
        self, dataset, plan, store, counted, monkeypatch
    ) -> None:
        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(module, "write_json", interrupted)
            with pytest.raises(KeyboardInterrupt):
                prepare(dataset, plan, store)
        cases = prepare(dataset, plan, store)
        assert counted == ["a", "a", dataset.cases[1].name]
        assert all(case.label().shape == case.shape for case in cases)
        assert not list(store.rglob(".*"))

    @pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"shape": ["x"], "sources": []})])
    def test_a_damaged_note_is_begun_again(self, dataset, plan, store, counted, text) -> None:
        cases = prepare(dataset, plan, store)
        (cases[0].folder / "case.json").write_text(text)
        prepare(dataset, plan, store)
        assert counted.count("a") == 2


def test_a_folder_that_is_not_there_is_told_of(
    dataset: Dataset, plan: Plan, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        prepare(dataset, plan, tmp_path / "file")


def test_real_cases(data_folder: Path, store: Path) -> None:
    dataset = open_dataset(data_folder / "hippocampus" / "val")
    plan = make_plan(dataset, fingerprint(dataset))
    cases = prepare(dataset, plan, store)
    assert len(cases) == 40
    for case in cases[:5]:
        assert set(np.unique(case.label())) == {0, 1, 2}
        assert abs(float(case.image().mean())) < 1e-4
