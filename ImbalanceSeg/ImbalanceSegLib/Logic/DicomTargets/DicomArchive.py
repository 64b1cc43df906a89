"""An archive that scans can be got from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from imbalanceseg.dicom.archive import Archive


class DicomArchive(Protocol):
    """An archive that scans can be got from, and that most often is a target, too."""

    def whyNot(self) -> str:
        """One sentence that says what the address lacks; empty when it can be tried."""

    def open(self) -> Archive:
        """The engine's way to it; nothing is sent yet, and nothing of the application touched.

        Raises:
            ImbalanceSegError: this application cannot reach such an archive.
        """
