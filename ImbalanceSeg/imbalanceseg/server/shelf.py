"""The models that clients may name: shipped ones, those the operator adds, and adapted ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from imbalanceseg.errors import ModelError
from imbalanceseg.server.models_folder import ModelsFolder
from imbalanceseg.server.store import Store

if TYPE_CHECKING:
    from imbalanceseg.models.bundle import Model

_NOT_FOR_CLINICAL_USE = "Not for clinical use."
_RECENT = 20
_log = logging.getLogger(__name__)


class ModelShelf:
    """Models by name. A client never gives a path.

    Where two have one name, a bundle that was named itself goes before one that lies in a folder
    of bundles.

    Args:
        store: with the adapted models.
        folders: further bundles.
        models_folders: whatever bundles lie in these, now or later.

    Raises:
        ModelError: a bundle of ``folders`` cannot be read.
    """

    def __init__(
        self, store: Store, folders: Sequence[Path] = (), models_folders: Sequence[Path] = ()
    ) -> None:
        from imbalanceseg.models.bundle import list_models, load_model

        self._store = store
        models = [load_model(name) for name in list_models()]
        models += [load_model(folder.resolve()) for folder in folders]
        self._fixed: dict[str, Model] = {model.name: model for model in models}
        self._folders = [ModelsFolder(folder) for folder in models_folders]
        for folder in self._folders:
            for name in folder.models().keys() & self._fixed.keys():
                _log.warning("%s in the folder of models is left out (name-taken).", name)

    def place(self, name: str) -> dict[str, str]:
        """``"id"`` and ``"path"`` of a model.

        Raises:
            ModelError: ``model-unknown``.
        """
        offered = self._offered()
        if name in offered:
            model = offered[name]
            # A worker that has it at hand must see that another lies there now.
            weights = model.card.weights[0].sha256 if model.card.weights else ""
            return {"id": f"{name} {weights}", "path": str(model.path)}
        if self._store.model(name) is not None:
            return {"id": name, "path": str(self._store.model_folder(name))}
        raise ModelError(
            "model-unknown",
            "There is no model of this name here.",
            f"Known models: {', '.join(offered) or 'none'}, and those adapted here.",
        )

    def adapted_folder(self, name: str) -> Path:
        """Where a model lies that was adapted here.

        Raises:
            ModelError: ``model-unknown``, or ``model-not-adapted`` where it came from elsewhere.
        """
        self.place(name)
        if name in self._offered():
            raise ModelError(
                "model-not-adapted",
                "Only models that were adapted here are handed out.",
                "Get this one from where it came.",
            )
        return self._store.model_folder(name)

    def _offered(self) -> dict[str, Model]:
        """All but those adapted here."""
        found: dict[str, Model] = {}
        for folder in reversed(self._folders):
            found |= folder.models()
        return {**self._fixed, **{k: v for k, v in found.items() if k not in self._fixed}}

    def summaries(self) -> list[dict[str, Any]]:
        """What a person needs to choose a model."""
        from imbalanceseg.models.bundle import load_model

        found = [self._summary(name, model) for name, model in self._offered().items()]
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
            "segments": [asdict(segment) for segment in card.segments],
            "limitations": list(card.limitations),
            "license": card.license,
            "disclaimer": _NOT_FOR_CLINICAL_USE,
            "case": None,
            "sha256": [weights.sha256 for weights in card.weights],
            "adapted": None if card.adaptation is None else card.adaptation.model_dump(),
            **self._measured(identifier),
        }

    def _measured(self, identifier: str) -> Mapping[str, Any]:
        """Typical time and memory of the last segmentations here, and of those on each device."""
        jobs = self._store.jobs(
            "kind = 'segment' AND state = 'done' AND json_extract(parameters, '$.model') = ?",
            identifier,
            limit=_RECENT,
        )
        outcomes = [job.outcome for job in jobs if job.outcome.get("peak_memory_mib")]
        by_device: dict[str, list[Mapping[str, Any]]] = {}
        for outcome in outcomes:
            kind = str(outcome.get("device", "cpu")).partition(":")[0]
            by_device.setdefault(kind, []).append(outcome)
        return {
            "measured": _typical(outcomes) if outcomes else None,
            "measured_on": {kind: _typical(some) for kind, some in by_device.items()},
        }


def _typical(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    figures = {
        "seconds": round(median(float(one["total_seconds"]) for one in outcomes), 2),
        "memory_mib": round(median(float(one["peak_memory_mib"]) for one in outcomes)),
        "jobs": len(outcomes),
    }
    on_device = [
        float(one["peak_device_memory_mib"])
        for one in outcomes
        if one.get("peak_device_memory_mib") is not None
    ]
    return figures | ({"device_memory_mib": round(median(on_device))} if on_device else {})
