"""Folders of cases: what belongs together, what is missing, and the figures over all of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.errors import GeometryError, InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import write_image
from imbalanceseg.metrics.cases import Case, pair_cases, score_case, summary

GRID = Grid((8, 7, 6), (1.0, 1.0, 2.0), (5, -3, 2), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def labels(width: int = 4, grid: Grid = GRID) -> sitk.Image:
    values = np.zeros(grid.size[::-1], np.uint8)
    values[1:4, 2:5, 1 : 1 + width] = 1
    return image_from_array(values, grid)


def folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).parent.mkdir(exist_ok=True)
        write_image(labels(), path / name)
    return path


def test_cases_are_paired_by_name_whatever_their_endings(tmp_path: Path) -> None:
    prediction = folder(tmp_path / "p", "b.nii.gz", "a/labels.nrrd", "extra.nrrd")
    reference = folder(tmp_path / "r", "a.mha", "b.nrrd", ".hidden.nrrd")
    (reference / "readme.txt").write_text("not an image")
    assert pair_cases(prediction, reference) == [
        Case("a", prediction / "a/labels.nrrd", reference / "a.mha"),
        Case("b", prediction / "b.nii.gz", reference / "b.nrrd"),
    ]


def test_maps_are_found_beside_the_labels(tmp_path: Path) -> None:
    runs = folder(tmp_path / "runs", "a/labels.nrrd", "a/hardness.nrrd", "a/probability.nrrd")
    reference = folder(tmp_path / "r", "a.nrrd")
    (case,) = pair_cases(runs, reference, probability=runs, hardness=runs)
    assert (case.probability, case.hardness) == (
        runs / "a/probability.nrrd",
        runs / "a/hardness.nrrd",
    )


def test_two_files_are_one_case_without_a_name(tmp_path: Path) -> None:
    path = folder(tmp_path / "p", "a.nrrd") / "a.nrrd"
    assert pair_cases(path, path) == [Case("", path, path)]


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", "a.nrrd")
    two = folder(tmp_path / "two", *(f"{n}.nrrd" for n in "abcdefgh"))
    twice = folder(tmp_path / "twice", "a.nrrd", "a.nii.gz")
    empty = folder(tmp_path / "empty")
    for arguments, code in [
        ((one, two), "case-missing"),
        ((one, empty), "folder-without-images"),
        ((empty, one), "folder-without-images"),
        ((twice, one), "case-twice"),
        ((one / "a.nrrd", two), "folder-beside-file"),
        ((one, two / "a.nrrd"), "folder-beside-file"),
        ((two, one, None, two / "a.nrrd"), "folder-beside-file"),
    ]:
        with pytest.raises(InputError) as caught:
            pair_cases(*arguments)
        assert caught.value.code == code
    with pytest.raises(InputError, match=r"b, c, d, e, f and 2 more"):
        pair_cases(one, two)


def test_other_grids_are_refused_and_resampled_when_asked(tmp_path: Path) -> None:
    fine = Grid((16, 14, 12), (0.5, 0.5, 1.0), (4.75, -3.25, 1.5), GRID.direction)
    values = np.kron(sitk.GetArrayFromImage(labels()), np.ones((2, 2, 2), np.uint8))
    write_image(image_from_array(values, fine), tmp_path / "fine.nrrd")
    write_image(labels(), tmp_path / "labels.nrrd")
    case = Case("", tmp_path / "fine.nrrd", tmp_path / "labels.nrrd")
    with pytest.raises(GeometryError, match="prediction") as caught:
        score_case(case)
    assert "--resample" in caught.value.hint
    figures = score_case(case, ("dice", "hd95_mm"), resampled=True)
    assert figures == {"dice": 1.0, "hd95_mm": 0.0}


def test_a_flipped_prediction_is_resampled_to_where_it_lies(tmp_path: Path) -> None:
    write_image(sitk.Flip(labels(3), (True, False, False)), tmp_path / "flipped.nrrd")
    write_image(labels(3), tmp_path / "labels.nrrd")
    case = Case("", tmp_path / "flipped.nrrd", tmp_path / "labels.nrrd")
    assert score_case(case, "dice", resampled=True) == {"dice": 1.0}


def test_maps_are_scored_with_the_labels(tmp_path: Path) -> None:
    write_image(labels(), tmp_path / "reference.nrrd")
    write_image(labels(3), tmp_path / "prediction.nrrd")
    wrong = sitk.Cast(sitk.Abs(sitk.Cast(labels(), 4) - sitk.Cast(labels(3), 4)), sitk.sitkFloat32)
    write_image(wrong, tmp_path / "hardness.nrrd")
    case = Case(
        "",
        tmp_path / "prediction.nrrd",
        tmp_path / "reference.nrrd",
        hardness=tmp_path / "hardness.nrrd",
    )
    figures = score_case(case, "dice")
    assert list(figures) == ["dice", "hardness_auroc", "hardness_sparsification_error"]
    assert figures["hardness_auroc"] == 1.0


def test_the_summary_leaves_out_what_is_undefined_and_keeps_what_is_infinite() -> None:
    rows = [{"dice": 1.0, "hd95_mm": 2.0}, {"dice": 0.5, "hd95_mm": math.inf}, {"dice": math.nan}]
    found = summary([*rows, {"dice": 0.0, "hd95_mm": 4.0}])
    assert found["mean"] == {"dice": 0.5, "hd95_mm": math.inf}
    assert found["median"] == {"dice": 0.5, "hd95_mm": 4.0}
    assert math.isnan(summary([{"dice": math.nan}])["mean"]["dice"])
