"""Under which address the engine knows the voxels of a volume."""

from __future__ import annotations

import slicer

from ImbalanceSegLib.Scene.VolumeGeometry import ijkToRASMatrix

Stamp = tuple[str, int, bytes]
"""Changes whenever voxels or their places do."""


class ScanAddresses:
    """Remembers addresses of volumes that have not changed since.

    The address is made of all voxels, which takes a while for a large volume; a click must not wait
    for that. It is kept in memory only: of a volume that is loaded again nothing is known.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Stamp, str]] = {}

    def of(self, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> str:
        """The address of a volume; empty where it is unknown, or the volume has changed."""
        stamp, address = self._known.get(volumeNode.GetID(), (None, ""))
        return address if stamp == self.stampOf(volumeNode) else ""

    def remember(
        self, volumeNode: slicer.vtkMRMLScalarVolumeNode, address: str, stamp: Stamp
    ) -> None:
        """Keep the address of a volume as it was when it had this stamp."""
        self._known[volumeNode.GetID()] = (stamp, address)

    def forget(self, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> None:
        """Know nothing of a volume, because the engine does not have it any more."""
        self._known.pop(volumeNode.GetID(), None)

    @staticmethod
    def stampOf(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> Stamp:
        """The volume as it is now."""
        image = volumeNode.GetImageData()
        scalars = None if image is None else image.GetPointData().GetScalars()
        if scalars is None:
            return "", 0, b""
        matrix = slicer.util.arrayFromVTKMatrix(ijkToRASMatrix(volumeNode))
        changed = max(image.GetMTime(), scalars.GetMTime())
        return scalars.GetAddressAsString("vtkObject"), changed, matrix.tobytes()
