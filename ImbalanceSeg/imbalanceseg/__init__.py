"""ImbalanceSeg: segmentation of what is small, rare and scattered.

Importing this package is cheap: torch and MONAI are loaded by the first call that needs them.
Not for clinical use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME_OF = {
    "Annotation": "imbalanceseg.annotation.annotation",
    "FineTuned": "imbalanceseg.training.finetune",
    "ImbalanceSegError": "imbalanceseg.errors",
    "ProgressEvent": "imbalanceseg.progress",
    "Segmentation": "imbalanceseg.inference.segmentation",
    "SliceSuggestion": "imbalanceseg.annotation.suggest",
    "evaluate": "imbalanceseg.metrics.evaluate",
    "finetune": "imbalanceseg.training.finetune",
    "load_annotation": "imbalanceseg.annotation.files",
    "load_model": "imbalanceseg.models.bundle",
    "read_dicom_seg": "imbalanceseg.dicom.seg_reading",
    "read_image": "imbalanceseg.io",
    "save_annotation": "imbalanceseg.annotation.files",
    "segment": "imbalanceseg.inference.segment",
    "suggest_slices": "imbalanceseg.annotation.suggest",
    "write_dicom_seg": "imbalanceseg.dicom.seg",
}

__all__ = ["__version__", *sorted(_HOME_OF)]

if TYPE_CHECKING:
    from imbalanceseg.annotation.annotation import Annotation
    from imbalanceseg.annotation.files import load_annotation, save_annotation
    from imbalanceseg.annotation.suggest import SliceSuggestion, suggest_slices
    from imbalanceseg.dicom.seg import write_dicom_seg
    from imbalanceseg.dicom.seg_reading import read_dicom_seg
    from imbalanceseg.errors import ImbalanceSegError
    from imbalanceseg.inference.segment import segment
    from imbalanceseg.inference.segmentation import Segmentation
    from imbalanceseg.io import read_image
    from imbalanceseg.metrics.evaluate import evaluate
    from imbalanceseg.models.bundle import load_model
    from imbalanceseg.progress import ProgressEvent
    from imbalanceseg.training.finetune import FineTuned, finetune


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
