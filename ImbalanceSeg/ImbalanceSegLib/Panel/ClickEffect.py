"""The effect "Imbalance click", made known to the Segment Editor."""

from __future__ import annotations

import sys
from pathlib import Path

_NAME = "SegmentEditorImbalanceClickEffect"
EFFECT_FILE = Path(__file__).parents[1] / _NAME / f"{_NAME}.py"


def registerClickEffect() -> bool:
    """Offer the effect in every Segment Editor, once, however often it is called.

    Returns:
        Whether it is offered; an application without a Segment Editor goes on without it.
    """
    # The application keeps the class under the name of the folder, also when the module is loaded
    # anew; a second effect of the same name would be refused.
    if hasattr(sys.modules.get(_NAME), _NAME):
        return True
    try:
        import qSlicerSegmentationsEditorEffectsPythonQt as effects
    except ImportError:
        return False
    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    effect.setPythonSource(str(EFFECT_FILE).replace("\\", "/"))
    effect.self().register()
    return True
