"""A place where a DICOM file may go."""

from __future__ import annotations

from typing import Protocol


class DicomTarget(Protocol):
    """Takes one DICOM file.

    Attributes:
        isRemote: whether :meth:`deliver` waits for a network and touches nothing of the
            application, so that it is called in a thread of its own.
    """

    isRemote: bool

    def whyNot(self) -> str:
        """One sentence that says what the target lacks; empty when it can be tried."""

    def deliver(self, content: bytes, name: str) -> str:
        """Take the file.

        Args:
            content: of the file.
            name: that it would have as a file, without suffix.

        Returns:
            A phrase that says where the file is now.

        Raises:
            RuntimeError: it was not taken; the text says why.
            ImbalanceSegError: it could not be written.
        """
