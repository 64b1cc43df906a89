"""Every name of Slicer that the code uses exists in Slicer.

``Testing/Slicer/api_names.json`` holds what a running Slicer listed; see the script beside it.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import SimpleITK as sitk
import vtk

_SCRIPT = Path(__file__).parents[1] / "Slicer" / "extract_api_names.py"
_SPEC = importlib.util.spec_from_file_location("extract_api_names", _SCRIPT)
scan = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(scan)

NAMES = json.loads(scan.NAMES_FILE.read_text(encoding="utf-8"))
CAMEL_CASE = re.compile(r"[A-Z][a-z]+[A-Za-z0-9]*")
COLOR_NODE_IDS = {"vtkMRMLColorTableNodeIron"}
FOREIGN_CLASSES = (vtk.vtkImageData, vtk.vtkPointData, vtk.vtkMatrix4x4, sitk.Image)


@pytest.fixture(params=scan.code_files(), ids=lambda path: path.name)
def tree(request):
    return ast.parse(request.param.read_text(encoding="utf-8"))


def unknownBehindSlicer(chain):
    """The part of ``("slicer", ...)`` that Slicer does not have; None when all is well."""
    first, rest = chain[1], chain[2:]
    python = {name.split(".")[1]: members for name, members in NAMES["python"].items()}
    if first in NAMES["classes"]:
        allowed = NAMES["classes"][first]
    elif first in python:
        allowed = python[first]
    elif first == "mrmlScene":
        allowed = NAMES["classes"]["vtkMRMLScene"]
    elif first == "app":
        allowed = [*NAMES["app"], "connect"]  # PythonQt gives connect to every QObject
    elif first == "modules":
        allowed = NAMES["modules"]
    else:
        return first
    return rest[0] if rest and rest[0] not in allowed else None


def test_namesBehindSlicerExist(tree):
    chains = [chain for chain in scan.dotted_names(tree) if chain[0] == "slicer"]
    unknown = {".".join(c): unknownBehindSlicer(c) for c in chains if unknownBehindSlicer(c)}
    assert not unknown


def test_importsFromSlicerExist(tree):
    for module, name in scan.imported_names(tree):
        allowed = NAMES["classes"] if module == "slicer" else NAMES["python"].get(module, ())
        assert name in allowed, f"{module} has no {name}"


def test_classesExist(tree):
    assert scan.class_names(tree) - set(NAMES["classes"]) <= COLOR_NODE_IDS


def test_methodsExistInSomeClass(tree):
    allowed = set().union(*NAMES["classes"].values(), *map(dir, FOREIGN_CLASSES))
    modules = {
        alias.asname or alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    used = {
        name
        for chain in scan.dotted_names(tree)
        if chain[0] not in modules
        for name in chain[1:]
        if CAMEL_CASE.fullmatch(name)
    }
    assert used <= allowed


def uiWidgets():
    return list(ElementTree.parse(scan.UI_FILE).iter("widget"))


def test_panelDeclaresItsForeignWidgets():
    declared = {
        item.findtext("class"): item.findtext("header")
        for item in ElementTree.parse(scan.UI_FILE).iter("customwidget")
    }
    assert declared == {name: f"{name}.h" for name in scan.ui_classes()}


def test_panelSetsPropertiesThatExist():
    for widget in uiWidgets():
        name = widget.attrib["class"]
        if name not in NAMES["widgets"]:
            continue
        allowed = {*NAMES["widgets"][name]["properties"], *NAMES["qwidget"]["properties"]}
        given = {
            item.attrib["name"]
            for item in widget.findall("property")
            if item.attrib["name"] != "SlicerParameterName"
        }
        assert given <= allowed, name


def test_panelConnectsSignalsThatExist():
    classes = {widget.attrib["name"]: widget.attrib["class"] for widget in uiWidgets()}
    connections = list(ElementTree.parse(scan.UI_FILE).iter("connection"))
    selectors = {name for name, kind in classes.items() if kind == "qMRMLNodeComboBox"}
    assert {item.findtext("receiver") for item in connections} == selectors
    for item in connections:
        sender, receiver = classes[item.findtext("sender")], classes[item.findtext("receiver")]
        assert item.findtext("signal") in NAMES["widgets"][sender]["signals"]
        slot = item.findtext("slot").split("(")[0]
        assert slot in NAMES["widgets"][receiver]["methods"]


def test_panelBindsEveryParameterOnce():
    source = (
        Path(scan.code_files()[0]).parent
        / "ImbalanceSegLib"
        / "Scene"
        / "ImbalanceSegParameterNode.py"
    )
    (node,) = [
        item for item in ast.parse(source.read_text()).body if isinstance(item, ast.ClassDef)
    ]
    parameters = sorted(item.target.id for item in node.body if isinstance(item, ast.AnnAssign))
    bound = sorted(
        item.findtext("string")
        for item in ElementTree.parse(scan.UI_FILE).iter("property")
        if item.attrib["name"] == "SlicerParameterName"
    )
    assert bound == parameters


def test_codeUsesWidgetsOfThePanel():
    names = {widget.attrib["name"] for widget in uiWidgets()}
    for path in scan.code_files():
        for chain in scan.dotted_names(ast.parse(path.read_text(encoding="utf-8"))):
            if "ui" in chain[:-1]:
                assert chain[chain.index("ui") + 1] in names, ".".join(chain)
