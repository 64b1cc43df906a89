"""An archive that is reached by DIMSE."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from slicer.i18n import tr as _

from imbalanceseg.client import EngineError
from imbalanceseg.errors import DependencyError

if TYPE_CHECKING:
    from imbalanceseg.dicom.archive import Archive

_LONGEST_AE_TITLE = 16
_HIGHEST_PORT = 65535


@dataclass(frozen=True)
class DicomNode:
    """An archive that is reached by DIMSE; files go by the sender of the application's DICOM part.

    Attributes:
        host: name or address of the archive.
        port: where it listens.
        aeTitle: its application entity title.
    """

    host: str
    port: int
    aeTitle: str
    isRemote: ClassVar[bool] = False

    def whyNot(self) -> str:
        """One sentence that says what the address lacks; empty when it can be tried."""
        if not self.host.strip() or any(c in self.host for c in "/: "):
            return _("Enter the name of the archive's computer, without port.")
        if not 0 < int(self.port) <= _HIGHEST_PORT:
            return _("Enter the port of the archive, a number up to 65535.")
        if not 0 < len(self.aeTitle.strip()) <= _LONGEST_AE_TITLE:
            return _("Enter the AE title of the archive, of at most 16 characters.")
        return ""

    def deliver(self, content: bytes, name: str) -> str:
        """Send the file; the application stands still until it is there.

        Args:
            content: of the file.
            name: is not used.

        Returns:
            A phrase that says where the file is now.

        Raises:
            RuntimeError: the address is not usable, or the archive did not take the file.
        """
        if problem := self.whyNot():
            raise RuntimeError(problem)
        import DICOMLib

        sender: Any = getattr(DICOMLib, "DICOMSender", None)
        if sender is None:
            raise RuntimeError(
                _("This Slicer cannot send by C-STORE. Use DICOMweb, or export into a folder.")
            )
        with tempfile.TemporaryDirectory(prefix="ImbalanceSeg-") as folder:
            path = Path(folder) / "segmentation.dcm"
            path.write_bytes(content)
            try:
                sender(
                    [str(path)],
                    f"{self.host.strip()}:{int(self.port)}",
                    "DIMSE",
                    # It takes any other answer for the wish to stop.
                    progressCallback=lambda message: True,
                    aeTitle=self.aeTitle.strip(),
                )
            except (UserWarning, OSError) as error:
                raise RuntimeError(self._notSent()) from error
        return f"{self.aeTitle.strip()} ({self.host.strip()})"

    def open(self) -> Archive:
        """The engine's way to it (C-FIND and C-GET), to find and get scans; nothing is sent yet.

        Raises:
            EngineError: the application lacks pynetdicom.
        """
        from imbalanceseg.dicom.archive_address import open_archive

        title, host = quote(self.aeTitle.strip(), safe=""), self.host.strip()
        try:
            return open_archive(f"dicom://{title}@{host}:{int(self.port)}")
        except DependencyError as error:
            raise EngineError(
                "dimse-missing",
                _("This application cannot ask a PACS by C-FIND: it lacks pynetdicom."),
                _("Use DICOMweb, or Query/Retrieve of the DICOM module."),
            ) from error

    def _notSent(self) -> str:
        return _(
            "The archive {title} at {host}:{port} did not take the file. Check name, port and AE "
            "title, and that the archive knows this computer and takes segmentations; or export "
            "into a folder."
        ).format(title=self.aeTitle, host=self.host, port=self.port)
