"""The DICOM files that a volume was loaded from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

_INSTANCE_UIDS = "DICOM.instanceUIDs"


def dicomDatabase() -> Any:
    """The DICOM database of the application; None where it has none."""
    # Set by the DICOM module, which replaces it when it opens a database for a moment.
    database = getattr(slicer, "dicomDatabase", None)
    if database is None and hasattr(slicer, "app"):
        database = slicer.app.dicomDatabase()
    return database


class DicomSeries:
    """The DICOM series that a volume was loaded from.

    Args:
        volumeNode: the volume.
    """

    def __init__(self, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> None:
        self._node = volumeNode

    @property
    def instanceUIDs(self) -> list[str]:
        """Of the slices; none where the volume was not loaded from DICOM."""
        return (self._node.GetAttribute(_INSTANCE_UIDS) or "").split()

    def whyNot(self) -> str:
        """One sentence that says why the files cannot be had; empty when all seems well.

        Only first and last file are looked for, so that it can be asked often.
        """
        uids = self.instanceUIDs
        if not uids:
            return _(
                "The volume '{volume}' was not loaded from DICOM, so no DICOM segmentation can "
                "refer to its slices. Load it from DICOM, or save an NRRD file."
            ).format(volume=self._node.GetName())
        if any(_fileOf(uid) is None for uid in {uids[0], uids[-1]}):
            return self._missing()
        return ""

    def files(self) -> list[Path]:
        """All of them, in the order of the volume.

        Raises:
            ValueError: the volume was not loaded from DICOM, or a file is missing.
        """
        if problem := self.whyNot():
            raise ValueError(problem)
        # Frames of one file have one and the same file, which is wanted once.
        found = [_fileOf(uid) for uid in self.instanceUIDs]
        if None in found:
            raise ValueError(self._missing())
        return list(dict.fromkeys(path for path in found if path is not None))

    def _missing(self) -> str:
        return _(
            "DICOM files of the volume '{volume}' are missing from the DICOM database. Import the "
            "series in the DICOM module again, or save an NRRD file."
        ).format(volume=self._node.GetName())


def _fileOf(instanceUID: str) -> Path | None:
    database = dicomDatabase()
    name = "" if database is None else database.fileForInstance(instanceUID)
    return Path(name) if name and Path(name).is_file() else None
