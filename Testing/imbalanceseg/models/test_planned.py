"""The card of a model that was trained from a plan."""

from __future__ import annotations

from typing import Any

import pytest

from imbalanceseg.models.card import ModelCard, NetworkSpec
from imbalanceseg.models.planned import planned_card, planned_segments
from imbalanceseg.models.readme import render_readme
from imbalanceseg.planning.imbalance import Sampling
from imbalanceseg.planning.plan import Plan
from imbalanceseg.preprocessing.intensity import Normalization

CT = Normalization(scheme="ct", low=-1000, high=400, mean=-300, std=350)


def plan(**changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "dataset": "Ears",
        "preset": "v2",
        "channel_names": ("CT",),
        "labels": {0: "background", 2: "canal", 5: "nerve"},
        "axes": (1, 0, 2),
        "spacing_mm": (3.0, 0.4, 0.5),
        "anisotropic": True,
        "patch": (10, 96, 80),
        "batch": 2,
        "network": "nnunet",
        "strides": ((1, 1, 1), (1, 2, 2)),
        "kernels": ((1, 3, 3), (3, 3, 3)),
        "features": (8, 16),
        "normalization": (CT,),
        "loss": "dice_ce",
        "loss_weight": "none",
        "sampling": Sampling(),
        "reasons": {},
    }
    return Plan(**fields | changes)


def card(of: Plan, **changes: Any) -> ModelCard:
    spec = NetworkSpec(name="nnunet", kwargs={"out_channels": 3})
    return planned_card(of, spec, name="ears", recipe_name="nnunet", cases=12, **changes)


def test_the_card_says_what_the_plan_says() -> None:
    made = card(plan())
    assert made.network_tile == (10, 96, 80)
    assert made.network_spacing == (3.0, 0.4, 0.5)
    assert made.tile_voxels == (80, 10, 96)
    assert (made.axes, made.anisotropic, made.resampling) == ((1, 0, 2), True, "spline")
    assert made.channels[0].normalization == CT
    assert (made.modality, made.channels[0].unit) == ("CT", "HU")
    assert made.mirrored_axes == (0, 1, 2)
    assert card(plan(), patch=(20, 32, 48)).network_tile == (20, 32, 48)
    assert ModelCard.model_validate_json(made.model_dump_json()) == made


def test_the_readme_says_what_it_is_not() -> None:
    text = render_readme(card(plan(), limitations=("It is deaf.",), training_note="Of one clinic."))
    for needed in (
        "Not for clinical use",
        "12 cases of Ears, and never tested on images from elsewhere",
        "It is deaf.",
        "Of one clinic.",
        "Labels are counted anew: 2 is 1, 5 is 2.",
        "the likeliest class",
        "-1000 to 400 HU, minus -300, divided by 350",
        "slices are not mixed",
        "python -m monai.bundle run",
        "never mixes them",
    ):
        assert needed in text, needed


def test_the_readme_names_the_steps_of_post_processing_that_are_on() -> None:
    plain = card(plan())
    names = {"holes filled", "leaks cut off", "smallest component", "Only the engine's labels"}
    assert not any(name in render_readme(plain) for name in names)
    asked = plain.model_copy(
        update={"fill_holes": (1, 2), "smallest_mm3": 2.5, "cut_leaks": True, "root": "trachea"}
    )
    text = render_readme(asked)
    assert "| holes filled | canal, nerve |" in text
    assert "| leaks cut off | as seen from the trachea |" in text
    assert "| smallest component | 2.5 mm3 |" in text
    sentence = (
        "Only the engine's labels have holes filled, leaks cut off, small components removed."
    )
    assert sentence in " ".join(text.split())


@pytest.mark.parametrize(
    ("names", "modality"),
    [(("T1", "FLAIR"), "MR"), (("MRI",), "MR"), (("fluorescence",), "other"), (("",), "other")],
)
def test_the_modality_is_told_from_the_channels(names: tuple[str, ...], modality: str) -> None:
    scaling = (Normalization(scheme="z-score"),) * len(names)
    named = tuple(name or "channel 0" for name in names)
    assert card(plan(channel_names=named, normalization=scaling)).modality == modality


def test_a_flat_plan_takes_pixels_as_they_are() -> None:
    flat = plan(axes=(1, 0), spacing_mm=(1.0, 1.0), anisotropic=False, patch=(64, 32))
    made = card(flat)
    assert made.spacing_mm is None
    assert made.tile_voxels == (64, 32)
    assert made.network_tile == (64, 32)
    assert made.mirrored_axes == (0, 1)
    assert "Its network is two-dimensional." in render_readme(made)


def test_every_class_has_a_colour_of_its_own() -> None:
    segments = planned_segments({value: f"class {value}" for value in range(40)})
    assert [s.label for s in segments] == list(range(1, 40))
    assert len({s.color for s in segments}) == 39
    assert all(s.type.value == s.category.value == "85756007" for s in segments)
