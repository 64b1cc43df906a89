"""The DICOM database of the application."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

from slicer.i18n import tr as _

from ImbalanceSegLib.Scene.DicomSeries import dicomDatabase


@dataclass(frozen=True)
class Database:
    """The DICOM database of the application, which copies what it takes."""

    isRemote: ClassVar[bool] = False

    def whyNot(self) -> str:
        """One sentence that says what the database lacks; empty when it can be tried."""
        database: Any = dicomDatabase()
        if database is None or not database.isOpen:
            return _("The DICOM database is not open; open the DICOM module once to set it up.")
        return ""

    def deliver(self, content: bytes, name: str) -> str:
        """Copy the file into the database.

        Args:
            content: of the file.
            name: is not used: the database names its files itself.

        Returns:
            A phrase that says where the file is now.

        Raises:
            RuntimeError: the database is not open, or did not take the file.
        """
        if problem := self.whyNot():
            raise RuntimeError(problem)
        import DICOMLib
        import pydicom

        database: Any = dicomDatabase()
        header = pydicom.dcmread(BytesIO(content), stop_before_pixels=True)
        with tempfile.TemporaryDirectory(prefix="ImbalanceSeg-") as folder:
            (Path(folder) / "segmentation.dcm").write_bytes(content)
            DICOMLib.importDicom(folder, database, copyFiles=True)
        if not database.fileForInstance(str(header.SOPInstanceUID)):
            raise RuntimeError(
                _(
                    "The DICOM database did not take the file. Check in the DICOM module that its "
                    "folder can be written to, or export into a folder."
                )
            )
        return _("DICOM database")
