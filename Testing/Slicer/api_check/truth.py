"""What a running Slicer has: classes, widgets, functions and modules, by name.

The file of all names and the part of it that is kept in the repository have the same form, so that
the check and the script that picks the part ask in the same way.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

# What PythonQt gives to every object, beside what Qt says of its class.
OF_EVERY_QOBJECT = frozenset(
    """blockSignals children className connect delete deleteLater disconnect dynamicPropertyNames
    event eventFilter findChild findChildren help inherits installEventFilter metaObject objectName
    parent property removeEventFilter setObjectName setParent setProperty signalsBlocked""".split()  # noqa: SIM905
)
_SNAKE_CASE = re.compile(r"[a-z]")


@dataclass(frozen=True)
class QtClass:
    """What a class of Qt, CTK or Slicer's widgets has; ``signals`` with their arguments."""

    properties: frozenset[str]
    signals: frozenset[str]
    methods: frozenset[str]

    @property
    def members(self) -> frozenset[str]:
        names = {signal.partition("(")[0] for signal in self.signals}
        return self.properties | self.methods | names | OF_EVERY_QOBJECT


class Truth:
    """Answers what exists, and remembers what it was asked for.

    Args:
        data: the form of ``slicer_api.json``, with ``"qt"`` for the classes of Qt itself.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.asked: dict[str, set[str]] = {
            key: set() for key in ("vtk", "widgets", "classes", "python", "qt", "members")
        }

    @property
    def modules(self) -> frozenset[str]:
        """What stands under ``slicer.modules``."""
        return frozenset(self.data["modules"])

    def has_vtk(self, name: str) -> bool:
        """Whether Slicer has a MRML, logic or segmentation class of this name."""
        if name in self.data["vtk"]:
            self.asked["vtk"].add(name)
            return True
        return False

    def vtk_has(self, name: str, member: str, *, or_below: bool) -> bool:
        """Whether a class, or one derived from it, has a member."""
        if member in self._vtk_members(name):
            return True
        if not or_below:
            return False
        for other in self.data["vtk"]:
            if name in self._parents(other) and member in self._vtk_members(other):
                self.asked["vtk"].add(other)
                return True
        return False

    def somewhere(self, member: str) -> bool:
        """Whether any class of Slicer has a member."""
        # Those that are asked for anyway go first, so that the part in use stays small.
        for name in sorted(self.data["vtk"], key=lambda one: one not in self.asked["vtk"]):
            if member in self._vtk_members(name):
                self.asked["vtk"].add(name)
                return True
        return False

    def base_outside(self, name: str) -> str:
        """The nearest base that is a class of VTK itself."""
        parents = self._parents(name)
        return str(self.data["vtk"][parents[-1]]["parent"]) if parents else name

    def qt_class(self, name: str) -> QtClass | None:
        """A class of CTK or Slicer's widgets, or an object that lives, such as ``slicer.app``."""
        plain = self.data["qwidget"]
        if name in self.data["widgets"]:
            self.asked["widgets"].add(name)
            own = self.data["widgets"][name]
            return _qt_class(own, plain if own["inherits"] else {})
        if name in self.data["classes"]:
            self.asked["classes"].add(name)
            names = frozenset(self.data["classes"][name])
            return QtClass(frozenset(), frozenset(), names | frozenset(plain["methods"]))
        if name in self.data.get("qt", {}):
            self.asked["qt"].add(name)
            own = self.data["qt"][name]
            return _qt_class(own, plain if own["inherits"] else {})
        return None

    def python(self, module: str) -> Mapping[str, Any] | None:
        """Functions (signatures) and classes (members) of a Python module of Slicer."""
        found = self.data["python"].get(module)
        if found is None or "_error" in found:
            return None
        exports = dict.fromkeys(found.get("_exports", ()), "")
        return exports | {key: value for key, value in found.items() if key != "_exports"}

    def python_member(self, module: str, name: str) -> Any:
        """Signature or members of something in a module; None where there is no such thing."""
        found = (self.python(module) or {}).get(name)
        if found is not None:
            self.asked["python"].add(f"{module}:{name}")
        return found

    def _parents(self, name: str) -> list[str]:
        parents = []
        while name in self.data["vtk"]:
            parents.append(name)
            name = self.data["vtk"][name]["parent"]
        return parents

    @cache  # noqa: B019
    def _vtk_members(self, name: str) -> frozenset[str]:
        found = set(self.data["vtk_object_methods"])
        for parent in self._parents(name):
            found |= set(self.data["vtk"][parent]["methods"])
        # Older versions of VTK lack the properties in snake case.
        return frozenset(member for member in found if not _SNAKE_CASE.match(member))


def _qt_class(own: Mapping[str, Any], inherited: Mapping[str, Any]) -> QtClass:
    return QtClass(
        *(
            frozenset([*own[kind], *inherited.get(kind, ())])
            for kind in ("properties", "signals", "methods")
        )
    )


def part_in_use(truth: Truth) -> dict[str, Any]:
    """The part of the truth that was asked for, in the same form."""
    data = truth.data
    classes = {name for asked in truth.asked["vtk"] for name in truth._parents(asked)}
    python: dict[str, dict[str, Any]] = {}
    for asked in sorted(truth.asked["python"]):
        module, _, name = asked.partition(":")
        python.setdefault(module, {})[name] = truth.python(module)[name]
    return {
        "slicer": data["slicer"],
        "modules": sorted(data["modules"]),
        "python": python,
        "qwidget": data["qwidget"],
        "widgets": {name: data["widgets"][name] for name in sorted(truth.asked["widgets"])},
        "classes": {name: data["classes"][name] for name in sorted(truth.asked["classes"])},
        "qt": {name: _short(data["qt"][name], truth) for name in sorted(truth.asked["qt"])},
        "vtk_object_methods": data["vtk_object_methods"],
        "vtk": {
            name: {
                "parent": data["vtk"][name]["parent"],
                "methods": [m for m in data["vtk"][name]["methods"] if not _SNAKE_CASE.match(m)],
            }
            for name in sorted(classes)
        },
    }


def _short(qt_class: Mapping[str, Any], truth: Truth) -> dict[str, Any]:
    methods = [name for name in qt_class["methods"] if name in truth.asked["members"]]
    return {**qt_class, "methods": methods}


def arguments_of(signature: str) -> ast.arguments | None:
    """The arguments of a signature as ``inspect`` prints it; None where it cannot be told."""
    try:
        tree = ast.parse(f"def f{re.sub('<[^<>]*>', 'None', signature)}: pass")
    except SyntaxError:
        return None
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    return function.args


def misfit(call: ast.Call, arguments: ast.arguments, *, bound: bool) -> str:
    """What keeps a call from fitting arguments; empty where nothing does.

    Args:
        call: the call.
        arguments: of the function.
        bound: whether the first one is given by the object.
    """
    if any(isinstance(one, ast.Starred) for one in call.args):
        return ""
    names = [one.arg for one in (*arguments.posonlyargs, *arguments.args)][bound:]
    keywords = {one.arg for one in call.keywords if one.arg is not None}
    by_name = {*names[max(0, len(arguments.posonlyargs) - bound) :]}
    by_name |= {one.arg for one in arguments.kwonlyargs}
    if not arguments.kwarg and keywords - by_name:
        return f"has no argument {', '.join(sorted(keywords - by_name))}"
    if not arguments.vararg and len(call.args) > len(names):
        return f"takes {len(names)} arguments by position, not {len(call.args)}"
    if any(one.arg is None for one in call.keywords):
        return ""
    needed = set(names[len(call.args) : max(0, len(names) - len(arguments.defaults))])
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    needed |= {one.arg for one, default in pairs if default is None}
    if missing := needed - keywords:
        return f"needs {', '.join(sorted(missing))}"
    return ""
