"""What a model card refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from imbalanceseg.errors import ModelError
from imbalanceseg.labels import AIRWAY_TREE
from imbalanceseg.models.card import ModelCard, parse_card


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../airway"),
        ("name", "Air way"),
        ("version", "1"),
        ("not_for_clinical_use", False),
        ("tile_voxels", (50, 48, 48)),
        ("tile_voxels", (8, 8, 8)),
        ("spacing_mm", (1, 1)),
        ("spacing_mm", (1, 1, float("nan"))),
        ("intensity", {"clip_low": 400, "clip_high": -1000}),
        ("segments", ()),
        ("segments", (replace(AIRWAY_TREE, label=2),)),
        ("segments", (replace(AIRWAY_TREE, color=(0, 0, 256)),)),
        ("training_data", ()),
        ("training_data", ({"name": "scans of a friend"},)),
        ("limitations", ()),
        ("metrics", {"phantom": {"dice": float("inf")}}),
        ("hardness", {"sparsity": 1.0}),
        ("weights", {"sha256": "abc"}),
        ("weights", {"sha256": "0" * 64, "file": "../../etc/passwd"}),
        ("format_version", 0),
    ],
)
def test_unusable_values_are_refused_by_field(make_card: Any, field: str, value: Any) -> None:
    values = make_card().model_dump() | {field: value}
    with pytest.raises(ModelError) as caught:
        parse_card(values, "metadata.json")
    assert caught.value.code == "model-invalid"
    assert field in caught.value.message


def test_card_survives_json(make_card: Any) -> None:
    card = make_card(references=("A paper.",))
    again = ModelCard.model_validate_json(card.model_dump_json())
    assert again == card
    assert again.segments == (AIRWAY_TREE,)


def test_many_faults_are_counted(make_card: Any) -> None:
    values = make_card().model_dump() | {f"unknown_{n}": n for n in range(9)}
    with pytest.raises(ModelError, match="and 4 more"):
        parse_card(values, "metadata.json")
