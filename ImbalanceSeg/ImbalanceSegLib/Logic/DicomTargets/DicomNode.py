"""An archive that is reached by C-STORE."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from slicer.i18n import tr as _

_LONGEST_AE_TITLE = 16
_HIGHEST_PORT = 65535


@dataclass(frozen=True)
class DicomNode:
    """An archive that is reached by C-STORE, with the sender of the application's DICOM module.

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

    def _notSent(self) -> str:
        return _(
            "The archive {title} at {host}:{port} did not take the file. Check name, port and AE "
            "title, and that the archive knows this computer and takes segmentations; or export "
            "into a folder."
        ).format(title=self.aeTitle, host=self.host, port=self.port)
