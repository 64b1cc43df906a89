"""Saved annotations of several patients are a training set with sparse labels."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.annotation.files import save_annotation
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.planning.dataset import open_dataset, read_case
from imbalanceseg.planning.fingerprint import fingerprint
from imbalanceseg.planning.plan import make_plan


def test_painted_slices_of_three_patients_are_planned_as_sparse(tmp_path) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for number in range(3):
        draw = np.random.default_rng(number)
        truth = np.zeros((16, 24, 24), np.uint8)
        truth[4:12, 6:16, 8:18] = 1
        scan = sitk.GetImageFromArray((draw.normal(size=truth.shape) + truth).astype(np.float32))
        annotation = Annotation.of(scan)
        for index in (5, 9):
            annotation.paint_slice(2, index, truth[index])
        sitk.WriteImage(scan, tmp_path / "images" / f"patient{number}.nrrd")
        save_annotation(annotation, tmp_path / "labels" / f"patient{number}.nrrd")
    dataset = open_dataset(tmp_path)
    label = read_case(dataset, dataset.cases[0]).label
    assert label is not None
    assert (label == UNLABELLED).sum() == 14 * 24 * 24
    assert (label == 1).sum() == 2 * 100
    found = fingerprint(dataset)
    plan = make_plan(dataset, found, 8.0, "v2")
    assert plan.sampling.annotated > 0
