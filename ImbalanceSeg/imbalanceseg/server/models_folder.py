"""A folder of model bundles, each offered under the name of its own folder."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from imbalanceseg.errors import ModelError
from imbalanceseg.server.requests import LONGEST_MODEL_NAME, MODEL_NAME

if TYPE_CHECKING:
    from imbalanceseg.models.bundle import Model

_log = logging.getLogger(__name__)


class ModelsFolder:
    """Bundles that may come and go while the server runs.

    What cannot be offered is told once in the log, and left out.

    Args:
        folder: that holds them; it need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._known: dict[Path, tuple[int, Model | None]] = {}

    def models(self) -> Mapping[str, Model]:
        """By name, as they are now; a card is read again only when it has changed."""
        before, self._known = self._known, {}
        for path in self._candidates():
            changed = _changed(path)
            known = before.get(path)
            if known is None or known[0] != changed:
                known = (changed, _model(path))
            self._known[path] = known
        return {path.name: model for path, (_, model) in self._known.items() if model is not None}

    def _candidates(self) -> list[Path]:
        try:
            there = sorted(self._folder.iterdir())
        except OSError:
            return []
        # What begins with a dot is still being written.
        return [path for path in there if path.is_dir() and not path.name.startswith(".")]


def _changed(path: Path) -> int:
    """When the card of a bundle was written; 0 where there is none."""
    from imbalanceseg.models.bundle import METADATA_FILE

    try:
        return (path / METADATA_FILE).stat().st_mtime_ns
    except OSError:
        return 0


def _model(path: Path) -> Model | None:
    from imbalanceseg.models.bundle import load_model

    try:
        if not re.fullmatch(MODEL_NAME, path.name) or len(path.name) > LONGEST_MODEL_NAME:
            raise ModelError("model-name", "The folder's name cannot be the name of a model.")
        model = load_model(path)
    except ModelError as error:
        _log.warning("%s in the folder of models is left out (%s).", path.name, error.code)
        return None
    return model
