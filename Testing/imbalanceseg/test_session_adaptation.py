"""A session that learns: adaptation, suggestion, undo, and the model it began with."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.errors import GeometryError
from imbalanceseg.session import Session

from .training import painted as phantoms

QUICK = {"seconds": 600.0, "iterations": 40, "depth": "head", "memory_gb": 2.0}


@pytest.fixture
def session() -> Session:
    scan, truth = phantoms.phantom()
    session = Session(scan)
    session.annotation = phantoms.painted(truth, (6, 13))
    return session


def labels(session: Session) -> np.ndarray:
    assert session.result is not None
    return sitk.GetArrayFromImage(session.result.labels)


def test_it_learns_suggests_learns_and_goes_back(session) -> None:
    truth = sitk.GetArrayFromImage(phantoms.phantom()[1])
    session.finetune(device="cpu", **QUICK)
    first, model = labels(session), session.model
    suggested = session.suggest(1)
    assert suggested
    one = suggested[0]
    plane = truth[tuple(one.index if n == 2 - one.axis else slice(None) for n in range(3))]
    session.annotation.paint_slice(one.axis, one.index, plane)
    session.finetune(device="cpu", **QUICK)
    assert session.model is not model
    assert session.undo()
    assert np.array_equal(labels(session), first)
    assert session.model is model


def test_what_was_adapted_can_be_written(session, tmp_path) -> None:
    tuned = session.finetune(device="cpu", **QUICK)
    session.model = tuned.save(tmp_path / "model")
    written = session.write(tmp_path / "out")
    assert {"labels.nrrd", "hardness.nrrd", "overview.png", "report.json"} <= {
        path.name for path in written
    }


def test_an_annotation_of_another_scan_is_refused(session) -> None:
    kept = session.annotation
    with pytest.raises(GeometryError):
        session.annotation = Annotation.of(sitk.Image(4, 4, 4, sitk.sitkUInt8))
    assert session.annotation is kept


def test_without_a_result_nothing_is_suggested(session) -> None:
    with pytest.raises(RuntimeError):
        session.suggest()


def test_a_failed_adaptation_leaves_the_result(session) -> None:
    session.finetune(device="cpu", **QUICK)
    before = session.result
    session.annotation = Annotation.of(session.image)
    with pytest.raises(Exception, match="Nothing is labelled"):
        session.finetune(device="cpu", **QUICK)
    assert session.result is before
