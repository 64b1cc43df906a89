"""The module's terms in Slicer's terminology selector."""

from __future__ import annotations

import logging
from pathlib import Path

import slicer

_TERMINOLOGY_FOLDER = Path(__file__).parents[2] / "Resources" / "Terminology"


def loadTerminology() -> tuple[str, ...]:
    """Offer the module's categories and types, so that segments show their coded names.

    Returns:
        Names of the contexts that were loaded.
    """
    logic = slicer.modules.terminologies.logic()
    contexts = []
    for path in sorted(_TERMINOLOGY_FOLDER.glob("*.term.json")):
        context = logic.LoadTerminologyFromFile(str(path))
        if context:
            contexts.append(context)
        else:
            logging.error("ImbalanceSeg: the terminology %s cannot be loaded", path.name)
    return tuple(contexts)
