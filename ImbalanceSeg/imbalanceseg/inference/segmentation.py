"""The result of segmenting one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import SimpleITK as sitk

from imbalanceseg.labels import SegmentInfo


@dataclass(frozen=True)
class Segmentation:
    """Labels and maps of one image, all on that image's own grid.

    Attributes:
        labels: uint8 image, 0 background, 1..K the ``segments``.
        segments: what each label value means.
        model_name: name of the model that made it, for example ``"airway"``.
        model_version: its version.
        probability: float32 image in [0, 1], probability of foreground, or None.
        hardness: float32 image in [0, 1], where the model is fragile, or None.
        attention: float32 image in [0, 1], where the network looked, or None.
        attention_levels: the same of each level of the network, coarsest first; often empty.
        hardness_kind: how the hardness map was made, or None.
        seconds: wall time of each stage.
        device: what it ran on, for example ``"cpu"`` or ``"cuda:0"``.
        backend: what computed there, for example ``"OpenVINO float32"``.
        notes: sentences the reader of the result must know, for example that nothing was found.
    """

    labels: sitk.Image
    segments: tuple[SegmentInfo, ...]
    model_name: str
    model_version: str
    probability: sitk.Image | None = None
    hardness: sitk.Image | None = None
    attention: sitk.Image | None = None
    attention_levels: tuple[sitk.Image, ...] = ()
    hardness_kind: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    device: str = "cpu"
    backend: str = ""
    notes: tuple[str, ...] = ()
