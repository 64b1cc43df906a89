"""What members of known objects stand for, and which do not exist."""

from __future__ import annotations

import ast
import re
import subprocess
from typing import TYPE_CHECKING

import SimpleITK as sitk
import vtk

from api_check import declared
from api_check.kinds import NONE, Kind, Kinds, either, one
from api_check.own_code import OwnClass, OwnCode
from api_check.tables import (
    DISPLAY_NODES,
    FUNCTIONS,
    LOGICS,
    NODES_OF_CLASS,
    OF_EFFECTS,
    OF_PARAMETER_NODES,
    OF_SCRIPTED_CLASSES,
    OF_SLICER,
    QT_RETURNS,
)
from api_check.truth import QtClass, Truth, arguments_of, misfit
from api_check.ui_file import UiFile

if TYPE_CHECKING:
    from api_check.check import Check

_QT_MODULES = ("qt", "ctk")
_SCRIPTED = "slicer.ScriptedLoadableModule."
_EFFECTS = "qSlicerSegmentationsEditorEffectsPythonQt"
# Given by the wrapping of VTK to every object or class.
_OF_VTK = frozenset(dir(vtk.vtkObject)) | {"__this__", "__vtkname__"}

_OF_VTK_MANNER = re.compile(r"[A-Z][a-z]+[A-Z]\w*")
# Whose methods are written in the same manner.
_STRANGERS = (
    sitk.Image,
    vtk.vtkCollection,
    vtk.vtkDoubleArray,
    vtk.vtkPoints,
    vtk.vtkStringArray,
    vtk.vtkTable,
    vtk.vtkImageData,
    vtk.vtkPointData,
    vtk.vtkMatrix4x4,
    subprocess,
)

Answer = tuple[Kinds, str]
_UNKNOWN: Answer = (None, "")


class Members:
    """Answers for members; see :class:`~api_check.check.Check`."""

    def __init__(self, truth: Truth, own: OwnCode, ui: UiFile | None, check: Check) -> None:
        self._truth, self._own, self._ui, self._check = truth, own, ui, check

    # modules

    def module(self, name: str) -> Kinds:
        """What an imported module stands for."""
        if name == "slicer" or name.startswith("slicer."):
            return one("module", name)
        if name in ("vtk", *_QT_MODULES, _EFFECTS):
            return one("module", name)
        if self._truth.python(name) is not None:
            return one("module", name)
        return one("own module", name) if self._own.module(name) else None

    def imported(self, module: str, name: str) -> Answer:
        """What ``from module import name`` brings, or why it brings nothing."""
        kinds = self.module(module)
        if kinds is None:
            return _UNKNOWN
        return self.read(kinds, name)

    # members

    def is_somewhere(self, name: str) -> bool:
        """Whether any class has a member; asked of names in the manner of VTK alone."""
        if not _OF_VTK_MANNER.fullmatch(name):
            return True
        return self._truth.somewhere(name) or any(hasattr(kind, name) for kind in _STRANGERS)

    def read(self, holder: Kinds, name: str) -> Answer:
        """What ``holder.name`` stands for, or why it cannot be read."""
        if holder is None or holder == NONE:
            return _UNKNOWN
        answers = [self._read_one(kind, name) for kind in holder - NONE]
        good = [kinds for kinds, text in answers if not text]
        if not good:
            return None, answers[0][1]
        return either(*good), ""

    def why_not_set(self, holder: Kinds, name: str) -> str:
        """Why ``holder.name = ...`` is not possible; empty where it is, or nobody knows."""
        if holder is None or holder == NONE:
            return ""
        texts = [self._why_not_set_one(kind, name) for kind in holder - NONE]
        return texts[0] if all(texts) else ""

    def _why_not_set_one(self, kind: Kind, name: str) -> str:
        if kind.family == "qt":
            known = self._truth.qt_class(kind.name)
            if known is None or name in known.properties:
                return ""
            # Of these no list says which of their members are properties.
            if kind.name in self._truth.data["classes"] and name in known.methods:
                return ""
            return f"{kind.name} has no property {name} to set"
        if kind.family in ("vtk", "plain"):
            return f"{kind.name} has no attribute {name} to set"
        if kind.family == "ui":
            return f"the panel has no {name} to set"
        return self._read_one(kind, name)[1]

    def _read_one(self, kind: Kind, name: str) -> Answer:
        readers = {
            "vtk": self._of_vtk,
            "vtk class": self._of_vtk,
            "plain": self._of_plain,
            "plain class": self._of_plain,
            "qt": self._of_qt,
            "qt class": self._of_qt,
            "own": self._of_own,
            "own class": self._of_own,
            "ui": self._of_ui,
            "module": self._of_module,
            "slicer module": self._of_slicer_module,
            "own module": self._of_own_module,
        }
        reader = readers.get(kind.family)
        return reader(kind, name) if reader else _UNKNOWN

    def _of_vtk(self, kind: Kind, name: str) -> Answer:
        if name in _OF_VTK or self._truth.vtk_has(kind.name, name, or_below=not kind.exact):
            return one("method", name, item=frozenset({kind})), ""
        base = declared.wrapped_class(self._truth.base_outside(kind.name))
        if base is not vtk.vtkObject and hasattr(base, name):
            return one("method", name, item=frozenset({kind})), ""
        # Events are in no list of methods.
        if hasattr(declared.wrapped_class(kind.name), name) and name.endswith("Event"):
            return _UNKNOWN
        return None, f"{kind.name} has no {name}"

    def _of_plain(self, kind: Kind, name: str) -> Answer:
        if declared.has_member(kind.name, name, or_below=not kind.exact):
            return one("method", name, item=frozenset({kind})), ""
        return None, f"{kind.name} has no {name}"

    def _of_qt(self, kind: Kind, name: str) -> Answer:
        known = self._truth.qt_class(kind.name)
        if known is None:
            return _UNKNOWN
        self._truth.asked["members"].add(name)
        if name not in known.members:
            return None, f"{kind.name} has no {name}"
        if name in known.properties and kind.family == "qt":
            return one("property", name, item=frozenset({kind})), ""
        return one("method", name, item=frozenset({kind})), ""

    def _of_own(self, kind: Kind, name: str) -> Answer:
        own = self._own.own_class(kind.name)
        if own is None:
            return _UNKNOWN
        known = self._own.members(own)
        if known is None:
            return self._of_scripted(own, name)
        if _is_parameter_node(own) and name in OF_PARAMETER_NODES:
            return _UNKNOWN
        if name not in known and not (not kind.exact and self._is_abstract(own)):
            return None, f"{own.node.name} has no {name}"
        if kind.family == "own class" and own.is_property(name):
            return _UNKNOWN
        return self._check.member_of(own, name), ""

    def _is_abstract(self, own: OwnClass) -> bool:
        return "abc.ABC" in self._own.bases(own)

    def _of_scripted(self, own: OwnClass, name: str) -> Answer:
        """Of a class that derives from one for scripted modules, or from a stranger."""
        known = set(own.members) | set(dir(object)) | OF_SCRIPTED_CLASSES
        for base in self._own.bases(own):
            if isinstance(base, OwnClass) or not base.startswith("slicer."):
                return self._check.member_of(own, name), ""
            module, _, thing = base.rpartition(".")
            members = self._truth.python_member(module, thing)
            known |= set(members) if isinstance(members, dict) else set()
            if "ScriptedLoadableModuleTest" in base:
                return self._check.member_of(own, name), ""
        if name not in known:
            return None, f"{own.node.name} has no {name}"
        return self._check.member_of(own, name), ""

    def _of_ui(self, kind: Kind, name: str) -> Answer:
        if self._ui is None:
            return _UNKNOWN
        if name in self._ui.classes:
            return one("qt", self._ui.classes[name]), ""
        if name in self._ui.others:
            return _UNKNOWN
        return None, f"the panel has no {name}"

    def _of_module(self, kind: Kind, name: str) -> Answer:
        if kind.name == "slicer":
            return self._of_slicer(name)
        if kind.name == "slicer.modules":
            if name in self._truth.modules or name.lower().startswith("imbalanceseg"):
                return one("slicer module", name), ""
            return None, f"slicer.modules has no {name}"
        if kind.name == "vtk":
            return self._of_vtk_module(name)
        if kind.name in (*_QT_MODULES, _EFFECTS):
            if self._truth.qt_class(name) is None:
                return None, f"{kind.name} has no {name}"
            return one("qt class", name), ""
        if kind.name == "SegmentEditorEffects" and name in OF_EFFECTS:
            return _UNKNOWN
        found = self._truth.python_member(kind.name, name)
        if found is None:
            return None, f"{kind.name} has no {name}"
        return one("function", f"{kind.name}:{name}"), ""

    def _of_slicer_module(self, kind: Kind, name: str) -> Answer:
        known = self._truth.qt_class("slicer.modules.segmentations")
        if known is not None and name not in known.members:
            return None, f"slicer.modules.{kind.name} has no {name}"
        return (one("module logic", kind.name), "") if name == "logic" else _UNKNOWN

    def _of_slicer(self, name: str) -> Answer:
        if name in OF_SLICER:
            return OF_SLICER[name], ""
        if self._truth.has_vtk(name):
            return one("vtk class", name), ""
        if self._truth.qt_class(name) is not None:
            return one("qt class", name), ""
        return None, f"slicer has no {name}"

    def _of_vtk_module(self, name: str) -> Answer:
        found = getattr(vtk, name, None)
        if found is None:
            return (None, f"vtk has no {name}") if name != "util" else _UNKNOWN
        return (one("plain class", name), "") if isinstance(found, type) else _UNKNOWN

    def _of_own_module(self, kind: Kind, name: str) -> Answer:
        module = self._own.module(kind.name)
        if module is None:
            return _UNKNOWN
        if name in module.classes:
            return one("own class", f"{module.name}:{name}"), ""
        if name in module.functions:
            return one("own function", f"{module.name}:{name}"), ""
        if name in module.imports:
            origin, thing = module.imports[name]
            return self.imported(origin, thing) if thing else (self.module(origin), "")
        if inner := self._own.module(f"{kind.name}.{name}"):
            return one("own module", inner.name), ""
        # A module with __getattr__ says only when it runs what it has.
        if name in module.values or "__getattr__" in module.functions:
            return _UNKNOWN
        return None, f"{kind.name} has no {name}"

    # calls

    def call(self, called: Kinds, node: ast.Call) -> tuple[Kinds, list[str]]:
        """What a call returns, and what is wrong with it."""
        if called is None or called == NONE:
            return None, []
        answers = [self._call_one(kind, node) for kind in called - NONE]
        good = [kinds for kinds, text in answers if not text]
        return (either(*good), []) if good else (None, [answers[0][1]])

    def _call_one(self, kind: Kind, node: ast.Call) -> Answer:
        if kind.family == "function":
            return self._call_function(kind.name, node)
        if kind.family == "own function":
            module_name, _, name = kind.name.partition(":")
            module = self._own.module(module_name)
            if module is None or name not in module.functions:
                return _UNKNOWN
            function = module.functions[name]
            problem = misfit(node, function.args, bound=False)
            text = f"{name} {problem}" if problem else ""
            return self._check.result_of(function, module, None), text
        if kind.family == "own class":
            return self._make(kind, node)
        if kind.family in ("vtk class", "plain class", "qt class"):
            return one(kind.family.partition(" ")[0], kind.name), ""
        if kind.family == "module logic":
            found = LOGICS.get(kind.name)
            return (one("vtk", found), "") if found and self._truth.has_vtk(found) else _UNKNOWN
        if kind.family == "property":
            (holder,) = kind.item or (Kind("none"),)
            return None, f"{kind.name} is a property of {holder.name}: it cannot be called"
        if kind.family == "method":
            (holder,) = kind.item or (Kind("none"),)
            return self._call_method(holder, kind.name, node)
        return _UNKNOWN

    def _call_function(self, name: str, node: ast.Call) -> Answer:
        module, _, function = name.partition(":")
        signature = self._truth.python_member(module, function)
        if isinstance(signature, dict):
            signature = signature.get("__init__", "")
            bound = True
        else:
            bound = False
        arguments = arguments_of(signature) if signature else None
        problem = misfit(node, arguments, bound=bound) if arguments else ""
        result = FUNCTIONS.get(name)
        if name in ("slicer.util:getModuleLogic", "slicer.util:getModuleWidget"):
            result = result if _text(node, 0) == "ImbalanceSeg" else None
        if name == "slicer.util:getNodesByClass" and _text(node, 0):
            result = one("list", item=one("vtk", _text(node, 0)))
        return result, f"{name.replace(':', '.')} {problem}" if problem else ""

    def _make(self, kind: Kind, node: ast.Call) -> Answer:
        own = self._own.own_class(kind.name)
        if own is None:
            return _UNKNOWN
        made = one("own", own.name)
        if self._own.members(own) is None:
            return made, ""
        holder = self._own.holder(own, "__init__")
        if holder is None or "__init__" not in holder.functions:
            return made, ""
        problem = misfit(node, holder.functions["__init__"].args, bound=True)
        return made, f"{own.node.name} {problem}" if problem else ""

    def _call_method(self, holder: Kind, name: str, node: ast.Call) -> Answer:
        if holder.family in ("own", "own class"):
            return self._call_own(holder, name, node)
        if holder.family.startswith("qt"):
            known = self._truth.qt_class(holder.name)
            text = _wrong_signal(known, holder, node) if known and name == "connect" else ""
            return QT_RETURNS.get((holder.name, name)), text
        counts = declared.argument_counts(holder.name, name) if holder.exact else None
        if counts and not node.keywords and not any(isinstance(a, ast.Starred) for a in node.args):
            # Called on the class, a method gets its object as the first argument.
            given = len(node.args)
            if holder.family.endswith("class") and given - 1 in counts:
                given -= 1
            if given not in counts:
                takes = " or ".join(map(str, sorted(counts)))
                return None, f"{holder.name}.{name} takes {takes} arguments, not {len(node.args)}"
        return self._vtk_result(holder, name, node)

    def _vtk_result(self, holder: Kind, name: str, node: ast.Call) -> Answer:
        if name in NODES_OF_CLASS and holder.name == "vtkMRMLScene":
            made = _text(node, NODES_OF_CLASS[name])
            if not made:
                return one("vtk", "vtkMRMLNode", exact=False), ""
            if not self._truth.has_vtk(made):
                return None, f"there is no class {made}"
            return one("vtk", made), ""
        if name == "GetDisplayNode" and holder.name in DISPLAY_NODES:
            return one("vtk", DISPLAY_NODES[holder.name]), ""
        result = declared.returned_class(holder.name, name)
        if not result:
            return _UNKNOWN
        if self._truth.has_vtk(result):
            return one("vtk", result, exact=False), ""
        return (one("plain", result, exact=False), "") if hasattr(vtk, result) else _UNKNOWN

    def _call_own(self, holder: Kind, name: str, node: ast.Call) -> Answer:
        own = self._own.own_class(holder.name)
        stands = self._own.holder(own, name) if own else None
        if stands is None or name not in stands.functions:
            return _UNKNOWN
        function = stands.functions[name]
        decorators = stands.decorators(name)
        if decorators - {"classmethod", "staticmethod", "abstractmethod", "property"}:
            return _UNKNOWN
        on_class = holder.family == "own class" and "classmethod" not in decorators
        bound = not ("staticmethod" in decorators or on_class)
        problem = misfit(node, function.args, bound=bound)
        text = f"{stands.node.name}.{name} {problem}" if problem else ""
        return self._check.result_of(function, stands.module, stands), text


def _is_parameter_node(own: OwnClass) -> bool:
    return "parameterNodeWrapper" in {ast.unparse(one) for one in own.node.decorator_list}


def _wrong_signal(known: QtClass, holder: Kind, node: ast.Call) -> str:
    signal = _text(node, 0)
    if not signal or signal in known.signals:
        return ""
    return f"{holder.name} has no signal {signal}"


def _text(node: ast.Call, index: int) -> str:
    if index < len(node.args) and isinstance(node.args[index], ast.Constant):
        value = node.args[index].value
        return value if isinstance(value, str) else ""
    return ""
