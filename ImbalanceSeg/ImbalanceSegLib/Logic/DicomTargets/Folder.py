"""A folder that takes DICOM files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from slicer.i18n import tr as _

from imbalanceseg.atomic import atomic_path
from ImbalanceSegLib.Logic.FileNames import fileNameOf, unusedPath


@dataclass(frozen=True)
class Folder:
    """A folder that takes DICOM files and never replaces one.

    Attributes:
        path: of the folder.
    """

    path: str | os.PathLike[str]
    isRemote: ClassVar[bool] = False

    def whyNot(self) -> str:
        """One sentence that says what the folder lacks; empty when it can be tried."""
        if not str(self.path).strip():
            return _("Choose the folder for the file.")
        if not Path(self.path).is_dir():
            return _("The folder '{folder}' does not exist; create it or choose another.").format(
                folder=self.path
            )
        return ""

    def deliver(self, content: bytes, name: str) -> str:
        """Write the file under a name that no file has yet.

        Args:
            content: of the file.
            name: that it shall have, without suffix.

        Returns:
            Its path.

        Raises:
            OutputError: it cannot be written.
        """
        path = unusedPath(Path(self.path) / fileNameOf(name, ".dcm"), ".dcm")
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
        return str(path)
