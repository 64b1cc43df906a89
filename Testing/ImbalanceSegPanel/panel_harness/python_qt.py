"""Qt as the application's Python sees it: properties as attributes, signals by their signature."""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

# Before Python 3.12, PySide6 takes a reference from None with every call that returns nothing.
# These are more than it ever takes, and are never given back.
_HELD = [None, True, False] * 500_000
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_HELD))

# Overridden in Python they would be called by Qt itself.
_CALLED_BY_QT = {"sizeHint", "minimumSizeHint"}


def trimmed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Calls a function with as many arguments as it takes, as the application does."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return function
    count = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    return lambda *arguments: function(*arguments[:count])


class PythonQt:
    """Gives a Qt class the manners of the application's Python; refuses unknown names."""

    _signatures: frozenset[str] = frozenset()
    _settable: frozenset[str] = frozenset()
    # The loader of PySide6 hangs every child on the widget that it has loaded.
    _isLoading = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        # PySide6 looks for these two on its own classes before it looks at those that derive.
        self.__dict__.update(connect=self._connect, disconnect=self._disconnect)

    def __setattr__(self, name: str, value: Any) -> None:
        isOwn = name.startswith("_")
        if PythonQt._isLoading and not isOwn and isinstance(value, QtCore.QObject):
            return
        if not isOwn and name not in self._settable:
            raise AttributeError(f"{type(self).__name__} has no property '{name}' to set")
        super().__setattr__(name, value)

    def _connect(self, *arguments: Any) -> Any:
        if len(arguments) != 2:
            # Qt's own signals come back here when they are connected.
            return QtCore.QObject.connect(*arguments)
        signature, function = arguments
        connected = trimmed(function)
        self._signal(signature).connect(connected)
        self.__dict__.setdefault("_slots", {}).setdefault(signature, []).append(connected)
        return True

    def _disconnect(self, *arguments: Any) -> Any:
        if len(arguments) > 2:
            return QtCore.QObject.disconnect(*arguments)
        for connected in self.__dict__.get("_slots", {}).pop(arguments[0], []):
            self._signal(arguments[0]).disconnect(connected)
        return True

    def _signal(self, signature: str) -> Any:
        if signature not in self._signatures:
            raise ValueError(f"{type(self).__name__} has no signal '{signature}'")
        name, arguments = signature.rstrip(")").split("(")
        for owner in type(self).__mro__:
            signal = vars(owner).get(name)
            if isinstance(signal, QtCore.Signal):
                bound = signal.__get__(self, type(self))
                break
        try:
            return bound[arguments] if arguments and "," not in arguments else bound
        except (IndexError, KeyError):
            return bound


def pythonQtClass(base: type, name: str = "") -> type:
    """A class of Qt with the manners of the application's Python."""
    meta = base.staticMetaObject
    methods = [meta.method(n) for n in range(meta.methodCount())]
    signals = {
        bytes(one.methodSignature()).decode()
        for one in methods
        if one.methodType() == QtCore.QMetaMethod.MethodType.Signal
    }
    properties = {meta.property(n).name() for n in range(meta.propertyCount())}
    members: dict[str, Any] = {
        "_signatures": frozenset(signals),
        "_settable": frozenset(properties),
    }
    for one in properties - _CALLED_BY_QT:
        members[one] = _qtProperty(one)
    return type(name or base.__name__, (PythonQt, base), members)


def _qtProperty(name: str) -> property:
    def write(self: QtCore.QObject, value: Any) -> None:
        if not self.setProperty(name, value):
            raise AttributeError(f"{type(self).__name__}.{name} cannot be set to {value!r}")

    return property(lambda self: self.property(name), write)


WIDGETS = (
    "QCheckBox",
    "QComboBox",
    "QDoubleSpinBox",
    "QLabel",
    "QLineEdit",
    "QListWidget",
    "QPlainTextEdit",
    "QProgressBar",
    "QPushButton",
    "QSpinBox",
    "QWidget",
)


class _Timer(pythonQtClass(QtCore.QTimer, "QTimer")):
    """A timer; calls that were put off are kept for the test to make."""

    putOff: list[Callable[[], None]] = []  # noqa: RUF012

    @staticmethod
    def singleShot(milliseconds: int, function: Callable[[], None]) -> None:
        _Timer.putOff.append(function)


class FileDialog:
    """Answers as if the user had chosen a file."""

    answer = ""
    asked: list[tuple[Any, ...]] = []  # noqa: RUF012

    @classmethod
    def getSaveFileName(cls, parent: Any, title: str, path: str = "", types: str = "") -> str:
        cls.asked.append((title, path))
        return cls.answer


def makeQt() -> ModuleType:
    """The module ``qt``."""
    module = ModuleType("qt")
    for name in WIDGETS:
        setattr(module, name, pythonQtClass(getattr(QtWidgets, name)))
    module.QTimer = _Timer
    module.QShortcut = pythonQtClass(QtGui.QShortcut, "QShortcut")
    module.QKeySequence = QtGui.QKeySequence
    module.QFileDialog = FileDialog
    module.Qt = SimpleNamespace(WidgetShortcut=QtCore.Qt.ShortcutContext.WidgetShortcut)
    return module
