"""What the module keeps in the scene."""

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import parameterNodeWrapper

from ImbalanceSegLib.Engine.ComputeDevice import ComputeDevice
from ImbalanceSegLib.Scene.SegmentationModel import SegmentationModel


@parameterNodeWrapper
class ImbalanceSegParameterNode:
    """What the module keeps in the scene.

    Attributes:
        inputVolume: the volume to segment.
        model: what to look for.
        device: where the engine computes.
        outputSegmentation: where the segments go; None makes a new node.
        hardnessMap: whether the map of fragile places is wanted.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    model: SegmentationModel = SegmentationModel.AIRWAY
    device: ComputeDevice = ComputeDevice.AUTO
    outputSegmentation: vtkMRMLSegmentationNode
    hardnessMap: bool = True
