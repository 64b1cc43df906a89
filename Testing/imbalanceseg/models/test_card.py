"""What a model card refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

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
        ("channels", ()),
        ("channels", ({"normalization": {"scheme": "range", "low": 400, "high": -1000}},)),
        ("channels", ({"normalization": {"scheme": "ct", "low": -1000, "high": 400}},)),
        ("axes", (0, 1)),
        ("axes", (0, 1, 1)),
        ("mirrored_axes", (3,)),
        ("mirrored_axes", (1, 1)),
        ("tile_overlap", 1.0),
        ("high_threshold", 0.4),
        ("high_threshold", 1.0),
        ("fill_holes", (2,)),
        ("largest_component_of", (2,)),
        ("smallest_mm3", -1),
        ("cut_leaks", True),
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
        ("weights", [{"sha256": "0" * 64}] * 2),
        ("weights", [{"sha256": "0" * 64, "file": "models/model_fold1.safetensors"}]),
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


def test_a_card_of_format_1_is_read(make_card: Any) -> None:
    new = make_card(largest_component_of=(1,), weights=[{"sha256": "0" * 64}])
    old = new.model_dump(mode="json")
    for field in (
        *("channels", "tile_overlap", "whole_tiles", "axes", "resampling", "anisotropic"),
        *("mirrored_axes", "largest_component_of", "connectivity"),
    ):
        del old[field]
    old |= {
        "format_version": 1,
        "intensity": {"clip_low": -1000.0, "clip_high": 400.0, "unit": "HU"},
        "keep_largest_component": True,
        "weights": {"file": "models/model.safetensors", "sha256": "0" * 64},
    }
    read = parse_card(old, "metadata.json")
    assert read.channels[0].unit == "HU"
    channel = new.channels[0].model_copy(update={"unit": "HU"})
    assert read == new.model_copy(update={"channels": (channel,)})
    assert parse_card(old | {"weights": None}, "metadata.json").weights == ()


def test_a_card_without_the_later_steps_of_post_processing_takes_none(make_card: Any) -> None:
    old = make_card().model_dump(mode="json")
    for field in ("high_threshold", "fill_holes", "cut_leaks", "smallest_mm3"):
        del old[field]
    read = parse_card(old, "metadata.json")
    assert (read.fill_holes, read.cut_leaks, read.smallest_mm3) == ((), False, 0)
    assert read.high_threshold is None


def test_leaks_are_cut_off_the_trachea_s_tree_only(make_card: Any) -> None:
    assert make_card(root="trachea", cut_leaks=True).cut_leaks
    two = (AIRWAY_TREE, replace(AIRWAY_TREE, label=2))
    with pytest.raises(ValidationError, match="root"):
        make_card(root="trachea", cut_leaks=True, segments=two)


def test_a_2d_card_has_two_of_everything(make_card: Any) -> None:
    flat = {
        "tile_voxels": (64, 32), "axes": (0, 1), "mirrored_axes": (0, 1), "spacing_mm": None,
    }  # fmt: skip
    card = make_card(**flat)
    assert (card.spatial_dims, card.network_tile, card.network_spacing) == (2, (32, 64), None)
    assert make_card(**flat | {"spacing_mm": (0.5, 1.0)}).network_spacing == (1.0, 0.5)
    with pytest.raises(ValidationError, match="spacing_mm"):
        make_card(**flat | {"spacing_mm": (1.0, 1.0, 1.0)})


def test_sides_and_spacing_are_told_along_the_network_s_axes(make_card: Any) -> None:
    card = make_card(axes=(2, 0, 1), tile_voxels=(16, 32, 48), spacing_mm=(3.0, 0.5, 0.7))
    assert card.network_tile == (16, 48, 32)
    assert card.network_spacing == (3.0, 0.7, 0.5)


def test_arguments_of_a_network_may_be_nested(make_card: Any) -> None:
    kwargs = {"kernels": [[1, 3, 3], [3, 3, 3]], "features": [8, 16], "deep_supervision": True}
    card = make_card(network={"name": "nnunet", "kwargs": kwargs})
    assert card.network.kwargs["kernels"] == ((1, 3, 3), (3, 3, 3))
    assert ModelCard.model_validate_json(card.model_dump_json()) == card
