"""The models that can be chosen, and what a person needs to know to choose."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

_BUNDLES = Path(__file__).parents[2] / "imbalanceseg" / "models" / "bundles"


@dataclass(frozen=True)
class ModelChoice:
    """One model that can be chosen.

    Attributes:
        name: by which the engine knows it.
        title: for the list of models.
        summary: kind of image, licence, and what a segmentation usually takes.
        description: what it was made for, and what it cannot do.
    """

    name: str
    title: str
    summary: str
    description: str = ""


def modelChoices(
    models: Iterable[Mapping[str, Any]] = (), bundles: Path = _BUNDLES
) -> list[ModelChoice]:
    """The models of the engine, or before it was asked those that come with the module.

    Args:
        models: as the engine tells them; empty before it was asked.
        bundles: folder of the models that come with the module.
    """
    told = [_choice(str(model["id"]), model) for model in models]
    return told or [_choice(name, card) for name, card in _shipped(bundles)]


def fromScratch() -> ModelChoice:
    """What is chosen where no model is: painting teaches the engine everything."""
    return ModelChoice(
        "",
        _("None: learn from painted slices"),
        _("any 3D image · two or three painted slices, then Adapt"),
        _("A small 3D network is taught by what you paint, and by nothing else."),
    )


def _shipped(bundles: Path) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for file in sorted(bundles.glob("*/configs/metadata.json")):
        card = json.loads(file.read_text(encoding="utf-8")).get("imbalanceseg", {})
        yield file.parents[1].name, card


def _choice(name: str, card: Mapping[str, Any]) -> ModelChoice:
    title = str(card.get("title") or card.get("name") or name)
    if card.get("case"):
        title = _("{model}, adapted to one scan").format(model=title)
    parts = [_imageKind(card), str(card.get("license", "")), _cost(card.get("measured"))]
    told = [str(card.get("intended_use", "")), *map(str, card.get("limitations", ()))]
    return ModelChoice(name, title, " · ".join(filter(None, parts)), "\n".join(filter(None, told)))


def _imageKind(card: Mapping[str, Any]) -> str:
    modality, part = str(card.get("modality", "")), str(card.get("body_part", "")).lower()
    return " ".join(filter(None, [modality, part]))


def _cost(measured: Mapping[str, float] | None) -> str:
    if not measured:
        return _("time and memory are known after the first run")
    return _("about {seconds:.0f} s and {gigabytes:.1f} GB here").format(
        seconds=measured["seconds"], gigabytes=measured["memory_mib"] / 1024
    )
