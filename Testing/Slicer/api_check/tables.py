"""What no list of names says: what calls return, and which names are not of all versions."""

from __future__ import annotations

from api_check.kinds import Kinds, one

_VOLUME = one("vtk", "vtkMRMLScalarVolumeNode", exact=False)
_NODE = one("vtk", "vtkMRMLNode", exact=False)

BASES = frozenset(
    {
        "vtkMRMLAbstractViewNode",
        "vtkMRMLDisplayNode",
        "vtkMRMLDisplayableNode",
        "vtkMRMLNode",
        "vtkMRMLStorableNode",
        "vtkMRMLTransformNode",
        "vtkMRMLTransformableNode",
        "vtkMRMLVolumeNode",
    }
)
"""Classes of which an annotation means: this, or one derived from it."""

BY_NAME: dict[str, Kinds] = {
    "ui": one("ui"),
    "logic": one("own", "ImbalanceSeg:ImbalanceSegLogic"),
    "panel": one("own", "ImbalanceSegLib.Panel.Panel:Panel"),
    "parameters": one(
        "own", "ImbalanceSegLib.Scene.ImbalanceSegParameterNode:ImbalanceSegParameterNode"
    ),
    "callerInteractor": one("plain", "vtkRenderWindowInteractor", exact=False),
    "viewWidget": one("qt", "qMRMLSliceWidget"),
    "scriptedEffect": one("qt", "qSlicerSegmentEditorScriptedEffect"),
}
"""What arguments and attributes without a type stand for, throughout the code."""

OF_PARAMETER_NODES = frozenset(
    """AddObserver EndModify HasObserver RemoveObserver StartModify connectGui
    connectParametersToGui dataType default disconnectGui getValue isCached parameterNode
    setValue""".split()  # noqa: SIM905
)
"""What ``parameterNodeWrapper`` gives to a class, beside its parameters."""

OF_EFFECTS = frozenset({"AbstractScriptedSegmentEditorEffect"})
"""Classes of the package ``SegmentEditorEffects``."""

OF_SLICER: dict[str, Kinds] = {
    "app": one("qt", "slicer.app"),
    "mrmlScene": one("vtk", "vtkMRMLScene"),
    "modules": one("module", "slicer.modules"),
    "packaging": one("module", "slicer.packaging"),
    "util": one("module", "slicer.util"),
    "i18n": one("module", "slicer.i18n"),
    "testing": one("module", "slicer.testing"),
    "parameterNodeWrapper": one("module", "slicer.parameterNodeWrapper"),
    "ScriptedLoadableModule": one("module", "slicer.ScriptedLoadableModule"),
}
"""What stands under ``slicer`` beside its classes."""

FUNCTIONS: dict[str, Kinds] = {
    "slicer.util:addVolumeFromArray": _VOLUME,
    "slicer.util:loadVolume": _VOLUME,
    "slicer.util:loadSegmentation": one("vtk", "vtkMRMLSegmentationNode"),
    "slicer.util:getNode": _NODE,
    "slicer.util:getFirstNodeByName": _NODE,
    "slicer.util:vtkMatrixFromArray": one("plain", "vtkMatrix4x4"),
    "slicer.util:childWidgetVariables": one("ui"),
    "slicer.util:loadUI": one("qt", "qMRMLWidget"),
    "slicer.util:getModuleLogic": one("own", "ImbalanceSeg:ImbalanceSegLogic"),
    "slicer.util:getModuleWidget": one("own", "ImbalanceSeg:ImbalanceSegWidget"),
}
"""What functions of Slicer's Python return, as ``module:function``."""

QT_RETURNS: dict[tuple[str, str], Kinds] = {
    ("slicer.app", "layoutManager"): one("qt", "slicer.app.layoutManager()"),
    ("slicer.app", "ioManager"): one("qt", "slicer.app.ioManager()"),
    ("slicer.app", "applicationLogic"): one("vtk", "vtkMRMLApplicationLogic", exact=False),
    ("slicer.app.layoutManager()", "sliceWidget"): one("qt", "layoutManager.sliceWidget('Red')"),
    ("slicer.app.layoutManager()", "plotWidget"): one("qt", "qMRMLPlotWidget"),
    ("slicer.app.layoutManager()", "mrmlScene"): one("vtk", "vtkMRMLScene"),
    ("layoutManager.sliceWidget('Red')", "sliceLogic"): one("vtk", "vtkMRMLSliceLogic"),
    ("layoutManager.sliceWidget('Red')", "mrmlSliceNode"): one("vtk", "vtkMRMLSliceNode"),
    ("qMRMLPlotWidget", "plotView"): one("qt", "qMRMLPlotView"),
    ("qMRMLPlotWidget", "mrmlPlotViewNode"): one("vtk", "vtkMRMLPlotViewNode"),
    ("qMRMLNodeComboBox", "currentNode"): _NODE,
    # Wrapped as what they are; those of this project are scripted.
    ("qMRMLSegmentEditorWidget", "activeEffect"): one("qt", "qSlicerSegmentEditorScriptedEffect"),
    ("qMRMLSegmentEditorWidget", "effectByName"): one("qt", "qSlicerSegmentEditorScriptedEffect"),
    ("qMRMLSegmentEditorWidget", "mrmlSegmentEditorNode"): one("vtk", "vtkMRMLSegmentEditorNode"),
    ("qMRMLSegmentEditorWidget", "segmentationNode"): one("vtk", "vtkMRMLSegmentationNode"),
    ("qMRMLSegmentEditorWidget", "sourceVolumeNode"): _VOLUME,
    ("qSlicerSegmentEditorScriptedEffect", "parameterSetNode"): one(
        "vtk", "vtkMRMLSegmentEditorNode"
    ),
    ("qSlicerSegmentEditorEffectFactory", "instance"): one(
        "qt", "qSlicerSegmentEditorEffectFactory"
    ),
}
"""What methods of widgets and live objects return."""

LOGICS = {
    "colors": "vtkSlicerColorLogic",
    "cropvolume": "vtkSlicerCropVolumeLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "plots": "vtkSlicerPlotsLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "sequences": "vtkSlicerSequencesLogic",
    "tables": "vtkSlicerTablesLogic",
    "terminologies": "vtkSlicerTerminologiesModuleLogic",
    "volumes": "vtkSlicerVolumesLogic",
}
"""Classes of ``slicer.modules.NAME.logic()``."""

NODES_OF_CLASS = {
    "AddNewNodeByClass": 0,
    "CreateNodeByClass": 0,
    "GetFirstNodeByClass": 0,
    "GetNthNodeByClass": 1,
    "GetSingletonNode": 1,
}
"""Methods of the scene that return a node of the class that an argument names."""

DISPLAY_NODES = {
    "vtkMRMLScalarVolumeNode": "vtkMRMLScalarVolumeDisplayNode",
    "vtkMRMLLabelMapVolumeNode": "vtkMRMLLabelMapVolumeDisplayNode",
    "vtkMRMLSegmentationNode": "vtkMRMLSegmentationDisplayNode",
}
"""What ``GetDisplayNode()`` returns."""

OF_SCRIPTED_CLASSES = frozenset(
    {"parent", "layout", "developerMode", "moduleName", "ui", "logic", "isSingletonParameterNode"}
)
"""Attributes that Slicer's base classes for scripted modules set in their constructors."""
