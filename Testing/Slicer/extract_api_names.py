"""Which names of Slicer the module uses, and which of them Slicer has.

    python extract_api_names.py SLICER_API.json

writes ``api_names.json`` beside this file: the members of every Slicer class that the module's code
names, as a running Slicer has listed them. The test that compares the two needs no Slicer.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).parents[2]
_MODULE = _REPOSITORY / "ImbalanceSeg"
UI_FILE = _MODULE / "Resources" / "UI" / "ImbalanceSeg.ui"
NAMES_FILE = Path(__file__).with_name("api_names.json")

# Classes whose objects the code meets without ever naming the class.
_UNNAMED_CLASSES = (
    "vtkMRMLScene",
    "vtkMRMLScalarVolumeDisplayNode",
    "vtkMRMLSegmentationDisplayNode",
    "vtkSegmentation",
    "vtkSlicerTerminologiesModuleLogic",
)
_PYTHON_MODULES = (
    "slicer.ScriptedLoadableModule",
    "slicer.i18n",
    "slicer.parameterNodeWrapper",
    "slicer.util",
)
_WIDGET_MEMBERS = ("properties", "signals", "methods")
_CLASS_NAME = re.compile(r"vtk(MRML|Slicer|Segment|Oriented)\w*")


def code_files() -> list[Path]:
    """Every Python file that runs inside Slicer."""
    return [
        _MODULE / "ImbalanceSeg.py",
        *sorted((_MODULE / "ImbalanceSegLib").rglob("*.py")),
        *sorted(Path(__file__).parent.glob("*Test.py")),
    ]


def dotted_names(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """Every longest ``a.b.c`` of the code as ``("a", "b", "c")``; a call or index ends it."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in inner:
            continue
        names: list[str] = []
        part: ast.expr = node
        while isinstance(part, ast.Attribute):
            names.append(part.attr)
            part = part.value
        names.append(part.id if isinstance(part, ast.Name) else "")
        yield tuple(reversed(names))


def imported_names(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Every ``from slicer.x import y`` as ``("slicer.x", "y")``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "slicer":
            for alias in node.names:
                yield str(node.module), alias.name


def class_names(tree: ast.AST) -> set[str]:
    """Every Slicer class that the code names, in strings too."""
    names = {name for chain in dotted_names(tree) for name in chain}
    names |= {name for _, name in imported_names(tree)}
    names |= {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {name for name in names if _CLASS_NAME.fullmatch(name)}


def ui_classes() -> set[str]:
    """Every widget class of the panel that is not Qt's own."""
    widgets = ElementTree.parse(UI_FILE).iter("widget")
    return {widget.attrib["class"] for widget in widgets if widget.attrib["class"][0] != "Q"}


def extract(api: dict[str, Any]) -> dict[str, Any]:
    """The part of Slicer's names that the code could mean."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in code_files()]
    wanted = set(_UNNAMED_CLASSES).union(*(class_names(tree) for tree in trees))
    return {
        "slicer": api["slicer"],
        "modules": api["modules"],
        "app": api["widgets"]["slicer.app"]["methods"],
        "python": {name: sorted(api["python"][name]) for name in _PYTHON_MODULES},
        "classes": {name: _members(api, name) for name in sorted(wanted) if name in api["vtk"]},
        "qwidget": {kind: sorted(api["qwidget"][kind]) for kind in _WIDGET_MEMBERS},
        "widgets": {
            name: {kind: sorted(api["widgets"][name][kind]) for kind in _WIDGET_MEMBERS}
            for name in sorted(ui_classes())
        },
    }


def _members(api: dict[str, Any], name: str) -> list[str]:
    members: set[str] = set()
    while name in api["vtk"]:
        members |= set(api["vtk"][name]["methods"])
        name = api["vtk"][name]["parent"]
    return sorted(members | set(api["vtk_object_methods"] if name else ()))


def main() -> None:
    api = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    names = extract(api)
    lines = [f'"{key}": {json.dumps(value)}' for key, value in names.items() if key != "classes"]
    classes = ",\n".join(f'"{name}": {json.dumps(m)}' for name, m in names["classes"].items())
    lines.append(f'"classes": {{\n{classes}\n}}')
    NAMES_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
