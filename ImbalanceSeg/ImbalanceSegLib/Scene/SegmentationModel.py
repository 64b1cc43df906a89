"""The models that are offered by name."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from slicer.i18n import tr as _

_BUNDLES = Path(__file__).parents[2] / "imbalanceseg" / "models" / "bundles"


class SegmentationModel(Enum):
    """The models that are offered by name. Scenes store the member's name: keep it."""

    AIRWAY = "airway"
    TUMOR = "tumor"
    LESION = "lesion"

    def label(self) -> str:
        """What the list of models shows."""
        return {
            SegmentationModel.AIRWAY: _("Airway tree (chest CT)"),
            SegmentationModel.TUMOR: _("Tumor (thick-slice MR)"),
            SegmentationModel.LESION: _("Lesions (MR FLAIR)"),
        }[self]

    @property
    def isInstalled(self) -> bool:
        """Whether the model's bundle is part of this installation."""
        return (_BUNDLES / self.value / "configs" / "metadata.json").is_file()
