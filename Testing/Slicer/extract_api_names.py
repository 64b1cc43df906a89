"""Which names of Slicer the module uses, and which of them Slicer has.

    python extract_api_names.py SLICER_API.json

writes ``api_names.json`` beside this file: the classes, widgets and functions of Slicer that the
module's code uses, with all their members, as a running Slicer has listed them. What is of Qt
itself stands in no such list; it is taken from PySide6. The test that checks the code needs
neither.
"""

from __future__ import annotations

import ast
import enum
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

from api_check.check import Check  # noqa: E402
from api_check.own_code import OwnCode, OwnModule  # noqa: E402
from api_check.truth import Truth, part_in_use  # noqa: E402
from api_check.ui_file import UiFile  # noqa: E402

MODULE = FOLDER.parents[1] / "ImbalanceSeg"
UI_FILES = tuple(sorted((MODULE / "Resources" / "UI").glob("*.ui")))
PAGES = (FOLDER.parents[1] / "Docs" / "scripting.md",)
NAMES_FILE = FOLDER / "api_names.json"


def code_files() -> list[Path]:
    """Every Python file that runs inside Slicer."""
    return [
        MODULE / "ImbalanceSeg.py",
        *sorted((MODULE / "ImbalanceSegLib").rglob("*.py")),
        *sorted(FOLDER.glob("ImbalanceSeg*.py")),
    ]


def code_of_page(page: Path) -> str:
    """The examples of a page as one file, and every ``logic...`` in its text."""
    text = page.read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    named = re.findall(r"`(logic(?:\.\w+)+)`", text)
    return "\n".join([*examples, *named])


def findings_of_page(check: Check, page: Path) -> list[str]:
    """What is wrong in the examples of a page."""
    return check.findings_in(OwnModule(page.stem, ast.parse(code_of_page(page))))


def make_check(truth: Truth) -> Check:
    """The check of this repository's code."""
    return Check(truth, OwnCode(MODULE, FOLDER), UiFile(MODULE / "Resources/UI/ImbalanceSeg.ui"))


def all_findings(truth: Truth) -> list[str]:
    """What is wrong in all files, with the file's name."""
    check = make_check(truth)
    found = [f"{path.name}: {text}" for path in code_files() for text in check.findings(path)]
    return found + [
        f"{path.name}: {text}" for path in UI_FILES for text in UiFile(path).findings(truth)
    ]


def qt_classes(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Properties, signals and methods of the classes of Qt, of widgets beyond a plain one's."""
    from PySide6 import QtCore, QtGui, QtWidgets

    found = {}
    for module in (QtCore, QtGui, QtWidgets):
        for name in dir(module):
            kind = getattr(module, name) if name.startswith("Q") else None
            if isinstance(kind, type):
                is_widget = issubclass(kind, QtWidgets.QWidget)
                found[name] = _qt_class(kind, plain if is_widget else {})
    return found


def _qt_class(kind: type, inherited: Mapping[str, Any]) -> dict[str, list[str]]:
    methods = {name for name in dir(kind) if not name.startswith("_")}
    for inner in [getattr(kind, name, None) for name in methods]:
        if isinstance(inner, type) and issubclass(inner, enum.Enum):
            methods |= set(inner.__members__)
    properties, signals = [], []
    if meta := getattr(kind, "staticMetaObject", None):
        properties = [meta.property(n).name() for n in range(meta.propertyCount())]
        found = [meta.method(n) for n in range(meta.methodCount())]
        signals = [
            bytes(one.methodSignature()).decode()
            for one in found
            if one.methodType().name == "Signal"
        ]
        methods |= {bytes(one.name()).decode() for one in found}
    own = {"properties": properties, "signals": signals, "methods": methods}
    found = {key: sorted(set(names) - set(inherited.get(key, ()))) for key, names in own.items()}
    return {"inherits": ["QWidget"] if inherited else [], **found}


def main() -> None:
    api = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    truth = Truth(api | {"qt": qt_classes(api["qwidget"])})
    for finding in all_findings(truth):
        print(finding)
    lines = []
    for key, value in part_in_use(truth).items():
        if isinstance(value, dict) and key != "qwidget":
            inner = [f"{json.dumps(name)}: {json.dumps(value[name])}" for name in sorted(value)]
            text = "{\n" + ",\n".join(inner) + "\n}"
        else:
            text = json.dumps(value)
        lines.append(f"{json.dumps(key)}: {text}")
    NAMES_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
