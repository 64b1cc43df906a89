"""What the module keeps in the scene."""

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from ImbalanceSegLib.Engine.ComputeDevice import ComputeDevice
from ImbalanceSegLib.Scene.SliceView import SliceView


@parameterNodeWrapper
class ImbalanceSegParameterNode:
    """What the module keeps in the scene.

    Attributes:
        inputVolume: the volume to segment.
        model: what to look for, by the name that the engine gives it.
        device: where the engine computes.
        outputSegmentation: where the segments go; None makes a new node.
        hardnessMap: whether the map of fragile places is wanted, and shown.
        hardnessOpacity: how strongly it covers the image.
        attentionMap: whether the map of where the network looks is wanted, and shown.
        attentionOpacity: how strongly it covers the image.
        legend: whether the views say which colour means what.
        view: the view whose slice "Slice done" means.
        clickLabel: label of the segment that a click on something missed adds to.
        clickRadiusMm: radius around the point of a click in which its label is certain, in mm.
        adaptSeconds: how long the model may learn, in seconds.
        lossCurve: whether a plot shows how it learns.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    model: str = "airway"
    device: ComputeDevice = ComputeDevice.AUTO
    outputSegmentation: vtkMRMLSegmentationNode
    hardnessMap: bool = True
    hardnessOpacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    attentionMap: bool = False
    attentionOpacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    legend: bool = True
    view: SliceView = SliceView.RED
    clickLabel: int = 1
    clickRadiusMm: Annotated[float, WithinRange(0.5, 20.0)] = 1.5
    adaptSeconds: Annotated[float, WithinRange(5.0, 600.0)] = 30.0
    lossCurve: bool = True
