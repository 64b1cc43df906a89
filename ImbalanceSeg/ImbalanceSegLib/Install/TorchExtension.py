"""The PyTorch extension, which installs torch for the graphics card at hand."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer

from ImbalanceSegLib.Install.PipRunner import constrained, linesTo

_EXTENSION = "PyTorch"
_MODULE = "PyTorchUtils"


class TorchExtension:
    """The PyTorch extension of Slicer."""

    @property
    def isThere(self) -> bool:
        """Whether it is installed and loaded."""
        return importlib.util.find_spec(_MODULE) is not None

    def get(self) -> bool:
        """Install the extension; Slicer has to be restarted then.

        Returns:
            Whether it was installed.
        """
        manager: Any = getattr(slicer.app, "extensionsManagerModel", lambda: None)()
        if manager is None:
            return False
        # Nobody shall be asked by a window behind the panel's own question.
        manager.interactive = False
        try:
            return bool(manager.installExtensionFromServer(_EXTENSION, False))
        finally:
            manager.interactive = True

    def installTorch(
        self, specifier: str, constraints: Path, log: Callable[[str], None]
    ) -> Exception | None:
        """Have torch installed, and wait for it.

        Args:
            specifier: versions that will do, such as ``">=2.8"``.
            constraints: file that says which versions of other packages are kept.
            log: receives every line that is printed.

        Returns:
            What went wrong; None where nothing was raised.
        """
        import PyTorchUtils

        logic: Any = PyTorchUtils.PyTorchUtilsLogic()
        try:
            with constrained(constraints), linesTo(log):
                logic.installTorch(askConfirmation=False, torchVersionRequirement=specifier)
        except Exception as error:
            # What the extension and the import of torch raise is not told anywhere.
            logging.exception("ImbalanceSeg: the PyTorch extension could not install torch")
            return error
        return None
