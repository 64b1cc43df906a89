"""The models that clients may name: shipped ones, those the operator adds, and adapted ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from imbalanceseg.errors import ModelError
from imbalanceseg.server.store import Store

if TYPE_CHECKING:
    from imbalanceseg.models.bundle import Model

_NOT_FOR_CLINICAL_USE = "Not for clinical use."
_RECENT = 20


class ModelShelf:
    """Models by name. A client never gives a path.

    Args:
        store: with the adapted models.
        folders: further bundles.

    Raises:
        ModelError: a bundle cannot be read.
    """

    def __init__(self, store: Store, folders: Sequence[Path] = ()) -> None:
        from imbalanceseg.models.bundle import list_models, load_model

        self._store = store
        models = [load_model(name) for name in list_models()]
        models += [load_model(folder.resolve()) for folder in folders]
        self._models: dict[str, Model] = {model.name: model for model in models}

    def place(self, name: str) -> dict[str, str]:
        """``"id"`` and ``"path"`` of a model.

        Raises:
            ModelError: ``model-unknown``.
        """
        if name in self._models:
            return {"id": name, "path": str(self._models[name].path)}
        if self._store.model(name) is not None:
            return {"id": name, "path": str(self._store.model_folder(name))}
        raise ModelError(
            "model-unknown",
            "There is no model of this name here.",
            f"Known models: {', '.join(self._models) or 'none'}, and those adapted here.",
        )

    def summaries(self) -> list[dict[str, Any]]:
        """What a person needs to choose a model."""
        from imbalanceseg.models.bundle import load_model

        found = [self._summary(name, model) for name, model in self._models.items()]
        for stored in self._store.models():
            try:
                model = load_model(self._store.model_folder(stored.id))
            except ModelError:
                continue
            found.append(self._summary(stored.id, model) | {"case": stored.case})
        return found

    def _summary(self, identifier: str, model: Model) -> dict[str, Any]:
        card = model.card
        return {
            "id": identifier,
            "name": card.name,
            "version": card.version,
            "title": card.title,
            "description": card.description,
            "intended_use": card.intended_use,
            "modality": card.modality,
            "body_part": card.body_part,
            "channels": [channel.name for channel in card.channels],
            "spatial_dims": card.spatial_dims,
            "segments": [
                {"label": s.label, "name": s.name, "color": list(s.color)} for s in card.segments
            ],
            "limitations": list(card.limitations),
            "license": card.license,
            "disclaimer": _NOT_FOR_CLINICAL_USE,
            "case": None,
            "measured": self._measured(identifier),
        }

    def _measured(self, identifier: str) -> Mapping[str, float] | None:
        """Typical time and memory of the last segmentations here; None before the first."""
        jobs = self._store.jobs(
            "kind = 'segment' AND state = 'done' AND json_extract(parameters, '$.model') = ?",
            identifier,
            limit=_RECENT,
        )
        outcomes = [job.outcome for job in jobs if job.outcome.get("peak_memory_mib")]
        if not outcomes:
            return None
        return {
            "seconds": round(median(float(o["total_seconds"]) for o in outcomes), 2),
            "memory_mib": round(median(float(o["peak_memory_mib"]) for o in outcomes)),
            "jobs": len(outcomes),
        }
