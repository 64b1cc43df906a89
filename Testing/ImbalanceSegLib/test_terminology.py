"""The terms that segments carry are the terms that the module offers in Slicer."""

from __future__ import annotations

from pathlib import Path

import pytest
import slicer

from imbalanceseg.labels import STANDARD_SEGMENTS
from ImbalanceSegLib.Scene.Terminology import loadTerminology

CONTEXT = "Segmentation category and type - ImbalanceSeg"


@pytest.fixture(scope="module")
def logic():
    assert loadTerminology() == (CONTEXT,)
    return slicer.modules.terminologies.logic()


@pytest.mark.parametrize("model", STANDARD_SEGMENTS)
def test_everySegmentIsFoundByItsCodes(logic, model):
    info = STANDARD_SEGMENTS[model]
    entry = slicer.vtkSlicerTerminologyEntry()
    assert logic.DeserializeTerminologyEntry(info.terminology_entry(), entry)
    category, kind = slicer.vtkSlicerTerminologyCategory(), slicer.vtkSlicerTerminologyType()
    assert logic.GetNthCategoryInTerminology(CONTEXT, categoryIndex(logic, info), category)
    names = []
    for index in range(logic.GetNumberOfTypesInTerminologyCategory(CONTEXT, category)):
        assert logic.GetNthTypeInTerminologyCategory(CONTEXT, category, index, kind)
        names.append(kind.GetCodeMeaning())
        if kind.GetCodeValue() == info.type.value:
            assert kind.GetCodeMeaning() == info.type.meaning
            assert kind.GetCodingSchemeDesignator() == info.type.scheme
            assert kind.GetRecommendedDisplayRGBValue() == info.color
            assert entry.GetTypeObject().GetCodeValue() == info.type.value
            return
    pytest.fail(f"{info.type.meaning} is not among {names}")


def categoryIndex(logic, info):
    category = slicer.vtkSlicerTerminologyCategory()
    for index in range(logic.GetNumberOfCategoriesInTerminology(CONTEXT)):
        logic.GetNthCategoryInTerminology(CONTEXT, index, category)
        if category.GetCodeValue() == info.category.value:
            assert category.GetCodeMeaning() == info.category.meaning
            return index
    return pytest.fail(f"{info.category.meaning} is missing")


def test_regionIsAskedForOnlyWhereTheTypeDoesNotSayIt(logic):
    shows = {}
    for index in range(logic.GetNumberOfCategoriesInTerminology(CONTEXT)):
        category = slicer.vtkSlicerTerminologyCategory()
        logic.GetNthCategoryInTerminology(CONTEXT, index, category)
        shows[category.GetCodeMeaning()] = bool(category.GetShowAnatomy())
    assert shows == {"Anatomical Structure": False, "Morphologically Altered Structure": True}


def test_everyTermFileIsLoaded():
    folder = Path(__file__).parents[2] / "ImbalanceSeg" / "Resources" / "Terminology"
    assert [path.name for path in folder.iterdir()] == ["ImbalanceSeg.term.json"]
