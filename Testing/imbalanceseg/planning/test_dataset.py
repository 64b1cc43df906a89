"""Layouts of training sets, and everything that can be wrong with one."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.cli.main import main
from imbalanceseg.errors import InputError
from imbalanceseg.planning.dataset import open_dataset, read_case
from imbalanceseg.planning.fingerprint import DatasetFaultsError, fingerprint

SPACING = (0.5, 0.5, 3.0)


def write(path: Path, values: np.ndarray, spacing: tuple[float, ...] = SPACING) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing[: image.GetDimension()])
    sitk.WriteImage(image, str(path))
    return path


def scan(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, (6, 10, 12)).astype(np.float32)


def label() -> np.ndarray:
    values = np.zeros((6, 10, 12), np.uint8)
    values[2:4, 3:6, 4:8] = 1
    values[0, 0, 0] = 1
    return values


@pytest.fixture
def nnunet(tmp_path: Path) -> Path:
    """Two channels, two cases."""
    folder = tmp_path / "Dataset001_Test"
    for case in ("a", "b"):
        for channel in (0, 1):
            write(folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz", scan(channel))
        write(folder / "labelsTr" / f"{case}.nii.gz", label())
    described = {
        "channel_names": {"0": "T1", "1": "FLAIR"},
        "labels": {"background": 0, "lesion": 1, "ignore": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def folders(tmp_path: Path) -> Path:
    for case in ("a", "b"):
        write(tmp_path / "set" / "images" / f"{case}.nrrd", scan())
        write(tmp_path / "set" / "labels" / f"{case}.nii.gz", label())
    return tmp_path / "set"


def datalist(tmp_path: Path) -> Path:
    folder = folders(tmp_path)
    entries = [
        {"image": f"images/{case}.nrrd", "label": f"labels/{case}.nii.gz"} for case in ("a", "b")
    ]
    path = folder / "datalist.json"
    path.write_text(json.dumps({"training": entries, "modality": "CT"}))
    return path


def test_an_nnunet_folder(nnunet: Path) -> None:
    dataset = open_dataset(nnunet)
    assert dataset.channel_names == ("T1", "FLAIR")
    assert dataset.labels == {0: "background", 1: "lesion"}
    assert [case.name for case in dataset.cases] == ["a", "b"]
    arrays = read_case(dataset, dataset.cases[0])
    assert arrays.image.shape == (2, 6, 10, 12)
    np.testing.assert_allclose(arrays.image[1], scan(1))
    assert arrays.spacing_mm == pytest.approx((3.0, 0.5, 0.5))


def test_the_ignore_label_of_nnunet_is_unlabelled(nnunet: Path) -> None:
    values = label()
    values[3:] = 2
    write(nnunet / "labelsTr" / "a.nii.gz", values)
    dataset = open_dataset(nnunet)
    found = read_case(dataset, dataset.cases[0]).label
    assert found is not None
    assert np.all(found[3:] == 255)
    assert fingerprint(dataset).labelled_share == pytest.approx(0.75)


@pytest.mark.parametrize("make", [folders, datalist])
def test_folders_and_datalists(make: Callable[[Path], Path], tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path))
    assert [case.name for case in dataset.cases] == ["a", "b"]
    assert dataset.channel_names == (("CT",) if make is datalist else ())
    assert read_case(dataset, dataset.cases[1]).image.shape == (1, 6, 10, 12)


def test_flat_images_with_numbered_instances(tmp_path: Path) -> None:
    numbers = np.zeros((40, 50), np.uint16)
    numbers[5:15, 5:15], numbers[15:25, 5:15], numbers[30:33, 30:33] = 1, 2, 300
    grey = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)
    write(tmp_path / "images" / "grey.png", grey)
    colour = sitk.GetImageFromArray(np.stack([grey] * 3, axis=-1), isVector=True)
    sitk.WriteImage(colour, str(tmp_path / "images" / "colour.png"))
    for case in ("grey", "colour"):
        write(tmp_path / "labels" / f"{case}.png", numbers)
    dataset = open_dataset(tmp_path, numbered=True)
    colour_case, grey_case = (read_case(dataset, case) for case in dataset.cases)
    assert grey_case.image.shape == (1, 1, 40, 50)
    np.testing.assert_allclose(colour_case.image, grey_case.image, rtol=1e-6)
    found = fingerprint(dataset)
    assert (found.spatial_dims, found.channels) == (2, 1)
    # Two that touch are two, since they have numbers of their own.
    assert found.classes[1].components_a_case == 3
    assert found.classes[1].component_size[1] == 100


def test_figures_counted_by_hand(tmp_path: Path) -> None:
    found = fingerprint(open_dataset(folders(tmp_path)))
    lesion = found.classes[1]
    assert (found.cases, lesion.cases, lesion.components_a_case) == (2, 2, 2)
    assert lesion.voxel_share == pytest.approx(25 / 720)
    # of 1 and 24 voxels of 0.75 mm3
    assert lesion.component_size[1] == pytest.approx((0.75 + 18) / 2)
    assert found.labelled_share == 1.0
    assert found.spacings_mm[0] == pytest.approx((3.0, 0.5, 0.5))
    inside = scan()[label() > 0]
    assert found.intensities[0].mean == pytest.approx(float(inside.mean()), rel=1e-5)


def test_a_ball_is_compact_and_a_rod_is_not(tmp_path: Path) -> None:
    z, y, x = np.mgrid[-9:10, -27:28, -150:151]
    ball = ((3 * z) ** 2 + y**2 + x**2 <= 25**2).astype(np.uint8)
    rod = ((abs(z) < 2) & (abs(y) < 4)).astype(np.uint8)
    for name, values in (("ball", ball), ("rod", rod)):
        write(tmp_path / name / "images" / "a.nrrd", 1 + values.astype(np.float32), (1, 1, 3))
        write(tmp_path / name / "labels" / "a.nrrd", values, (1, 1, 3))
    found = {n: fingerprint(open_dataset(tmp_path / n)).classes[1] for n in ("ball", "rod")}
    assert found["ball"].compactness > 0.9
    assert found["rod"].compactness < 0.55
    assert found["rod"].local_share < found["ball"].local_share


def test_what_is_zero_around_the_object_is_cropped(tmp_path: Path) -> None:
    values = np.zeros((20, 20, 20), np.float32)
    values[5:15, 2:12, 8:18] = 7
    write(tmp_path / "images" / "a.nrrd", values)
    write(tmp_path / "labels" / "a.nrrd", (values > 0).astype(np.uint8))
    found = fingerprint(open_dataset(tmp_path))
    assert found.shapes == [(10, 10, 10)]
    assert found.cropped_share == pytest.approx(1 / 8)


def test_the_storage_order_of_the_files_does_not_matter(tmp_path: Path) -> None:
    there = folders(tmp_path / "as-is")
    for order in ("RAS", "ASL", "SPL"):
        back = folders(tmp_path / order)
        for path in (*(back / "images").iterdir(), *(back / "labels").iterdir()):
            sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), order), str(path))
        one, other = (open_dataset(path) for path in (there, back))
        found, turned = (read_case(d, d.cases[0]) for d in (one, other))
        np.testing.assert_array_equal(found.image, turned.image)
        np.testing.assert_array_equal(found.label, turned.label)
        assert found.spacing_mm == pytest.approx(turned.spacing_mm)
        figures = fingerprint(one), fingerprint(other)
        assert figures[0].classes == figures[1].classes


def test_the_same_dataset_has_the_same_fingerprint(nnunet: Path) -> None:
    assert fingerprint(open_dataset(nnunet)) == fingerprint(open_dataset(nnunet))


def test_folds_of_a_datalist(tmp_path: Path) -> None:
    path = datalist(tmp_path)
    described = json.loads(path.read_text())
    first, second = described["training"]
    lists = {"training": [first | {"fold": 2}], "validation": [second]}
    path.write_text(json.dumps(described | lists))
    assert [case.fold for case in open_dataset(path).cases] == [2, 0]
    for wrong in ({"training": [first | {"fold": "x"}]}, {"validation": [{}]}, {"validation": 3}):
        path.write_text(json.dumps(described | wrong))
        with pytest.raises(InputError):
            open_dataset(path)


@pytest.fixture
def broken(nnunet: Path) -> Path:
    """One whole case, and one for each thing that can be wrong."""
    images, labels = nnunet / "imagesTr", nnunet / "labelsTr"
    for case in ("no-label", "other-grid", "seven", "empty", "nan", "text", "cut", "whole"):
        for channel in (0, 1):
            write(images / f"{case}_{channel:04d}.nii.gz", scan(channel))
        write(labels / f"{case}.nii.gz", label())
    (labels / "no-label.nii.gz").unlink()
    (images / "a_0001.nii.gz").unlink()
    write(labels / "other-grid.nii.gz", label(), (0.7, 0.5, 3.0))
    write(labels / "seven.nii.gz", label() * 7)
    (images / "empty_0000.nii.gz").write_bytes(b"")
    not_a_number = scan()
    not_a_number[0, 0, 0] = np.nan
    # ITK's reader of NIfTI turns NaN into 0 by itself.
    (images / "nan_0001.nii.gz").unlink()
    write(images / "nan_0001.nrrd", not_a_number)
    (images / "text_0000.nii.gz").write_text("not an image")
    # ITK would read the rest as zeros.
    whole = images / "cut_0001.nii.gz"
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return nnunet


FAULTS = {
    "a": "a_0001",
    "no-label": "no-label.nii.gz",
    "other-grid": "its spacing in mm is (0.7, 0.5, 3), not (0.5, 0.5, 3)",
    "seven": "label 7 is not declared",
    "empty": "is empty",
    "nan": "nan_0001.nrrd has voxels that are NaN",
    "text": "not an image in a known format",
    "cut": "cut_0001.nii.gz ends before the last",
}


def test_every_fault_is_told_at_once(broken: Path) -> None:
    with pytest.raises(DatasetFaultsError) as caught:
        fingerprint(open_dataset(broken))
    faults = dict(caught.value.faults)
    assert faults.keys() == FAULTS.keys()
    for case, words in FAULTS.items():
        assert words in faults[case]
    assert "8 faults" in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).faults == caught.value.faults


@pytest.mark.parametrize("command", ["plan", "train"])
def test_the_commands_list_every_fault_and_write_nothing(
    broken: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output"
    arguments = [command, str(broken), "-o", str(output), "--progress", "none"]
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "error[dataset-faults]: Dataset001_Test has 8 faults:" in told.err
    lines = told.err.splitlines()
    for case, words in FAULTS.items():
        assert any(line.startswith(f"  {case}: ") and words in line for line in lines)
    assert not output.exists()


def test_a_dataset_without_foreground_or_labels_is_refused(tmp_path: Path) -> None:
    folder = folders(tmp_path)
    for case in ("a", "b"):
        write(folder / "labels" / f"{case}.nii.gz", label() * 0)
    with pytest.raises(DatasetFaultsError, match="no case has any foreground"):
        fingerprint(open_dataset(folder))
    (folder / "list.json").write_text(json.dumps({"training": [{"image": "images/a.nrrd"}]}))
    with pytest.raises(DatasetFaultsError, match="no case has a label"):
        fingerprint(open_dataset(folder / "list.json"))


def test_numbered_instances_are_not_taken_for_classes(tmp_path: Path) -> None:
    folder = folders(tmp_path)
    values = np.arange(720).reshape(6, 10, 12) % 60
    write(folder / "labels" / "a.nii.gz", values.astype(np.uint8))
    with pytest.raises(DatasetFaultsError, match="--instances"):
        fingerprint(open_dataset(folder))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "no object"),
        ('{"labels": {"whole": [1, 2]}}', "region"),
        ('{"labels": {"far": 300}}', "300"),
        ('{"channel_names": {"first": "CT"}}', "malformed"),
    ],
)
def test_a_description_that_cannot_be_used_is_refused(nnunet: Path, text: str, words: str) -> None:
    (nnunet / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=words):
        open_dataset(nnunet)


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no dataset"):
        open_dataset(tmp_path / "nothing")
    with pytest.raises(InputError, match="neither imagesTr nor images"):
        open_dataset(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="no image"):
        open_dataset(tmp_path)
    for text in ("{}", '{"training": []}', '{"training": [{"label": "a"}]}'):
        (tmp_path / "list.json").write_text(text)
        with pytest.raises(InputError):
            open_dataset(tmp_path / "list.json")
