"""The application's parameter nodes, as far as the module uses them."""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import slicer


@dataclass(frozen=True)
class WithinRange:
    """Values that are allowed."""

    minimum: float
    maximum: float

    def check(self, value: float) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within {self.minimum} and {self.maximum}")


def _parts(hint: Any) -> tuple[type, tuple[Any, ...]]:
    if typing.get_origin(hint) is typing.Annotated:
        kind, *notes = typing.get_args(hint)
        return kind, tuple(notes)
    return hint, ()


def _isNode(kind: type) -> bool:
    return issubclass(kind, slicer.vtkMRMLNode)


class _Wrapper:
    _hints: Mapping[str, Any]
    _defaults: Mapping[str, Any]

    def __init__(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._bindings: dict[int, dict[str, Any]] = {}
        self._isUpdating = False
        for name, value in self._defaults.items():
            if not parameterNode.GetParameter(name):
                self._write(name, value)
        self.AddObserver("ModifiedEvent", lambda caller, event: self._updateWidgets())

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def HasObserver(self, event: Any, callback: Any = None) -> bool:
        return self.parameterNode.HasObserver(event)

    def connectParametersToGui(self, mapping: Mapping[str, Any]) -> int:
        tag = len(self._bindings) + 1
        self._bindings[tag] = dict(mapping)
        for name, widget in mapping.items():
            binding = _Binding(widget, *_parts(self._hints[name]))
            self._bindings[tag][name] = binding
            binding.write(self._read(name))
            binding.listen(lambda name=name, binding=binding: self._take(name, binding))
        return tag

    def disconnectGui(self, tag: int) -> None:
        for binding in self._bindings.pop(tag).values():
            binding.listen(None)

    def _take(self, name: str, binding: _Binding) -> None:
        if not self._isUpdating:
            self._write(name, binding.read())

    def _updateWidgets(self) -> None:
        if self._isUpdating:
            return
        self._isUpdating = True
        try:
            for mapping in self._bindings.values():
                for name, binding in mapping.items():
                    binding.write(self._read(name))
        finally:
            self._isUpdating = False

    def _read(self, name: str) -> Any:
        kind, _notes = _parts(self._hints[name])
        if _isNode(kind):
            return self.parameterNode.GetNodeReference(name)
        text = self.parameterNode.GetParameter(name)
        if issubclass(kind, enum.Enum):
            return kind[text]
        return text == "True" if kind is bool else kind(text)

    def _write(self, name: str, value: Any) -> None:
        kind, notes = _parts(self._hints[name])
        if _isNode(kind):
            if value is not None and not isinstance(value, kind):
                raise ValueError(f"{name} takes no {type(value).__name__}")
            node = None if value is None else value.GetID()
            self.parameterNode.SetNodeReferenceID(name, node)
            return
        if not isinstance(value, kind):
            raise ValueError(f"{name} takes no {type(value).__name__}")
        for note in notes:
            note.check(value)
        text = value.name if isinstance(value, enum.Enum) else str(value)
        self.parameterNode.SetParameter(name, text)


class _Binding:
    """Between one parameter and its widget; the kinds that the application knows."""

    def __init__(self, widget: Any, kind: type, notes: tuple[Any, ...]) -> None:
        self._widget, self._kind = widget, kind
        self._callback: Callable[[], None] | None = None
        name = type(widget).__name__
        self._choices = list(kind) if issubclass(kind, enum.Enum) else []
        if name == "qMRMLNodeComboBox" and _isNode(kind):
            signal = "currentNodeChanged(vtkMRMLNode*)"
        elif name == "QComboBox" and self._choices:
            signal = "currentIndexChanged(int)"
            widget.clear()
            widget.addItems([choice.label() for choice in self._choices])
        elif name == "QCheckBox" and kind is bool:
            signal = "stateChanged(int)"
        elif name in ("QDoubleSpinBox", "ctkSliderWidget") and kind is float:
            signal = "valueChanged(double)"
            widget.minimum, widget.maximum = notes[0].minimum, notes[0].maximum
        else:
            raise RuntimeError(f"a {name} cannot show a {kind}")
        widget.connect(signal, self._changed)

    def listen(self, callback: Callable[[], None] | None) -> None:
        self._callback = callback

    def _changed(self) -> None:
        if self._callback is not None:
            self._callback()

    def read(self) -> Any:
        if _isNode(self._kind):
            return self._widget.currentNode()
        if self._choices:
            return self._choices[self._widget.currentIndex]
        return self._widget.checked if self._kind is bool else self._widget.value

    def write(self, value: Any) -> None:
        if _isNode(self._kind):
            self._widget.setCurrentNode(value)
        elif self._choices:
            self._widget.currentIndex = self._choices.index(value)
        elif self._kind is bool:
            self._widget.checked = value
        else:
            self._widget.value = value


def parameterNodeWrapper(declared: type) -> type:
    """Turns a declaration into a class whose attributes stand in a node of the scene."""
    hints = typing.get_type_hints(declared, include_extras=True)
    defaults = {name: getattr(declared, name) for name in hints if hasattr(declared, name)}
    members: dict[str, Any] = {"_hints": hints, "_defaults": defaults}
    for name in hints:
        members[name] = property(
            lambda self, name=name: self._read(name),
            lambda self, value, name=name: self._write(name, value),
        )
    return type(declared.__name__, (_Wrapper,), members)


def makeModule() -> ModuleType:
    """The module ``slicer.parameterNodeWrapper``."""
    module = ModuleType("slicer.parameterNodeWrapper")
    module.WithinRange, module.parameterNodeWrapper = WithinRange, parameterNodeWrapper
    return module
