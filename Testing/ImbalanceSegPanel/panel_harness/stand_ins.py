"""Stand-ins for the application's widgets: the names of the real ones, and hardly any behaviour."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from panel_harness.python_qt import PythonQt, trimmed

API = json.loads((Path(__file__).parents[1] / "widget_api.json").read_text(encoding="utf-8"))
_HEADER = 26


class StandIn(PythonQt, QtWidgets.QWidget):
    """A widget that has the names of the real class of the same name, and no others."""

    _names: frozenset[str] = frozenset()

    def __init_subclass__(cls) -> None:
        own, common = API[cls.__name__], API["QWidget"]
        cls._signatures = frozenset([*own["signals"], *common["signals"]])
        cls._settable = frozenset([*own["properties"], *common["properties"]])
        cls._names = cls._settable | {*own["methods"], *common["methods"]}
        cls._names |= {signature.split("(")[0] for signature in cls._signatures}
        invented = {name for name in vars(cls) if not name.startswith("_")} - cls._names
        invented -= {"staticMetaObject"}
        assert not invented, f"{cls.__name__} has no {invented}"
        given = {name for owner in cls.__mro__[:-1] for name in vars(owner)}
        for name in own["properties"]:
            if name not in given or name in ("enabled",):
                setattr(cls, name, _dynamic(name))
        for name in ("enabled", "toolTip", "visible", "objectName"):
            setattr(cls, name, _dynamic(name))

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name in type(self)._names:
            return super().__getattribute__(name)
        raise AttributeError(f"the real {type(self).__name__} has no '{name}'")

    def _connect(self, *arguments: Any) -> Any:
        if len(arguments) != 2:
            return super()._connect(*arguments)
        signature, function = arguments
        if signature not in self._signatures:
            raise ValueError(f"{type(self).__name__} has no signal '{signature}'")
        self.__dict__.setdefault("_slots", {}).setdefault(signature, []).append(trimmed(function))
        return True

    def _emit(self, signature: str, value: Any) -> None:
        # Not by a signal of PySide6, which counts the references to what it sends wrongly.
        if not QtCore.QObject.signalsBlocked(self):
            for slot in self.__dict__.get("_slots", {}).get(signature, []):
                slot(value)

    def _loaded(self) -> None:
        """Take over what the file of the panel has set before there was anybody to take it."""
        for bytesOfName in QtCore.QObject.dynamicPropertyNames(self):
            name = bytesOfName.data().decode()
            if isinstance(getattr(type(self), name, None), property):
                setattr(self, name, QtCore.QObject.property(self, name))

    def _called(self, *call: Any) -> None:
        self.__dict__.setdefault("_calls", []).append(call)


def _dynamic(name: str) -> property:
    return property(
        lambda self: QtCore.QObject.property(self, name),
        lambda self, value: QtCore.QObject.setProperty(self, name, value),
    )


class qMRMLWidget(StandIn):  # noqa: N801
    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        for child in QtCore.QObject.findChildren(self, QtWidgets.QWidget):
            if isinstance(child, StandIn) and "setMRMLScene" in child._names:
                child.setMRMLScene(scene)


class ctkCollapsibleButton(StandIn):  # noqa: N801
    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._text, self._collapsed = "", False
        QtWidgets.QWidget.setContentsMargins(self, 0, _HEADER - 6, 0, 0)

    text = property(lambda self: self._text, lambda self, text: self._write(text))
    collapsed = property(lambda self: self._collapsed, lambda self, on: self._fold(on))

    def _write(self, text: str) -> None:
        self._text = text

    def _fold(self, folded: bool) -> None:
        changed, self._collapsed = folded != self._collapsed, folded
        QtWidgets.QWidget.setMinimumHeight(self, _HEADER if folded else 0)
        QtWidgets.QWidget.setMaximumHeight(self, _HEADER if folded else 16777215)
        if changed:
            self._emit("contentsCollapsed(bool)", folded)

    def paintEvent(self, event: Any) -> None:
        painter = QtWidgets.QStylePainter(self)
        button = QtWidgets.QStyleOptionButton()
        button.initFrom(self)
        button.rect = QtCore.QRect(0, 0, QtWidgets.QWidget.width(self), _HEADER - 2)
        button.state |= QtWidgets.QStyle.StateFlag.State_Raised
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, button)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(6, 6, 12, 12)
        kinds = QtWidgets.QStyle.PrimitiveElement
        painter.drawPrimitive(
            kinds.PE_IndicatorArrowRight if self._collapsed else kinds.PE_IndicatorArrowDown, arrow
        )
        painter.drawText(24, 17, self._text)


class qMRMLNodeComboBox(StandIn):  # noqa: N801
    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._node, self._scene = None, None
        self._box = QtWidgets.QComboBox(self)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.setSizeAdjustPolicy(
            QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def mrmlScene(self) -> Any:
        return self._scene

    def currentNode(self) -> Any:
        return self._node

    def setCurrentNode(self, node: Any) -> None:
        changed, self._node = node is not self._node, node
        self._box.clear()
        none = QtCore.QObject.property(self, "noneDisplay") or "None"
        self._box.addItem(node.GetName() if node is not None else none)
        if changed:
            self._emit("currentNodeChanged(vtkMRMLNode*)", node)


class ctkSliderWidget(StandIn):  # noqa: N801
    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._value = 0.0
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal, self)
        self._spin = QtWidgets.QDoubleSpinBox(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin)

    value = property(lambda self: self._value, lambda self, value: self._set(value))

    def setValue(self, value: float) -> None:
        self._set(value)

    def _set(self, value: float) -> None:
        changed, self._value = value != self._value, value
        self._slider.setValue(round(99 * value))
        self._spin.setValue(value)
        if changed:
            self._emit("valueChanged(double)", value)


class ctkPathLineEdit(StandIn):  # noqa: N801
    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._edit = QtWidgets.QLineEdit(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit)
        button = QtWidgets.QToolButton(self)
        button.setText("…")
        layout.addWidget(button)

    currentPath = property(
        lambda self: self._edit.text(), lambda self, path: self.setCurrentPath(path)
    )

    def setCurrentPath(self, path: str) -> None:
        changed = path != self._edit.text()
        self._edit.setText(path)
        if changed:
            self._emit("currentPathChanged(QString)", path)


def _table(parent: QtWidgets.QWidget) -> QtWidgets.QTreeWidget:
    table = QtWidgets.QTreeWidget(parent)
    table.setHeaderLabels(["", "", "Name"])
    table.setRootIsDecorated(False)
    for column in (0, 1):
        table.setColumnWidth(column, 30)
    layout = parent.layout() or QtWidgets.QVBoxLayout(parent)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(table)
    return table


def _showSegments(table: QtWidgets.QTreeWidget, node: Any) -> None:
    table.clear()
    if node is None:
        return
    segmentation = node.GetSegmentation()
    for n in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(n)
        item = QtWidgets.QTreeWidgetItem(["●", "", segment.GetName()])
        item.setBackground(1, QtGui.QColor.fromRgbF(*segment.GetColor()))
        table.addTopLevelItem(item)


class qMRMLSegmentsTableView(StandIn):  # noqa: N801
    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._node = None
        self._table = _table(self)

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        self._node = node
        _showSegments(self._table, node)


class qMRMLSegmentationShow3DButton(StandIn):  # noqa: N801
    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._node = None
        self._button = QtWidgets.QPushButton(self)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._button)

    text = property(lambda self: self._button.text(), lambda self, text: self._button.setText(text))

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        self._node = node


class qMRMLSegmentEditorWidget(StandIn):  # noqa: N801
    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene = self._editorNode = self._node = self._volume = None
        self._calls: list[Any] = []
        layout = QtWidgets.QVBoxLayout(self)
        self._table = _table(self)
        self._table.setMaximumHeight(80)
        self._row = QtWidgets.QHBoxLayout()
        layout.addLayout(self._row)

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def setEffectNameOrder(self, names: list[str]) -> None:
        for name in ["", *names]:
            button = QtWidgets.QToolButton(self)
            button.setText(name or "↖")
            self._row.addWidget(button)
        self._row.addStretch(1)

    def setUndoEnabled(self, enabled: bool) -> None:
        self._called("setUndoEnabled", enabled)

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        self._editorNode = node
        self._called("setMRMLSegmentEditorNode")

    def setSegmentationNode(self, node: Any) -> None:
        assert node is None or self._editorNode is not None
        self._node = node
        _showSegments(self._table, node)
        self._called("setSegmentationNode", node)

    def setSourceVolumeNode(self, node: Any) -> None:
        assert node is None or self._node is not None
        self._volume = node
        self._called("setSourceVolumeNode", node)

    def setActiveEffect(self, effect: Any) -> None:
        self._called("setActiveEffect", effect)

    def setCurrentSegmentID(self, segmentID: str) -> None:
        self._called("setCurrentSegmentID", segmentID)

    def saveStateForUndo(self) -> None:
        self._called("saveStateForUndo")

    def updateWidgetFromMRML(self) -> None:
        self._called("updateWidgetFromMRML")

    def installKeyboardShortcuts(self) -> None:
        self._called("installKeyboardShortcuts")

    def uninstallKeyboardShortcuts(self) -> None:
        self._called("uninstallKeyboardShortcuts")

    def removeViewObservations(self) -> None:
        self._called("removeViewObservations")


STAND_INS = {
    kind.__name__: kind
    for kind in (
        ctkCollapsibleButton,
        ctkPathLineEdit,
        ctkSliderWidget,
        qMRMLNodeComboBox,
        qMRMLSegmentEditorWidget,
        qMRMLSegmentationShow3DButton,
        qMRMLSegmentsTableView,
        qMRMLWidget,
    )
}
