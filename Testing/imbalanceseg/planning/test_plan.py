"""Plans of real and made-up datasets: decisions, and that their reasons say what was decided on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from imbalanceseg.cli.main import app
from imbalanceseg.errors import InputError
from imbalanceseg.losses import loss_names
from imbalanceseg.planning.dataset import Dataset, open_dataset
from imbalanceseg.planning.fingerprint import ChannelIntensities, ClassFingerprint, Fingerprint
from imbalanceseg.planning.fingerprint import fingerprint as measured
from imbalanceseg.planning.plan import Plan, decisions, make_plan, with_patch
from imbalanceseg.training.build import chosen_loss
from imbalanceseg.training.recipe import Recipe


def dataset(channel: str = "", **labels: int) -> Dataset:
    names = {0: "background", **{value: name for name, value in labels.items()}}
    return Dataset(
        "made-up", (channel,) if channel else (), names if labels else {}, 255, False, ()
    )


def fingerprint(lesion: dict[str, Any] | None = None, **changes: Any) -> Fingerprint:
    one: dict[str, Any] = {
        "cases": 10,
        "voxel_share": 0.03,
        "components_a_case": 1.0,
        "largest_share": 1.0,
        "component_size": (900.0, 1000.0, 1100.0),
        "local_share": 0.7,
        "compactness": 0.8,
    }
    figures: dict[str, Any] = {
        "cases": 10,
        "spatial_dims": 3,
        "channels": 1,
        "shapes": [(60, 70, 80)] * 10,
        "spacings_mm": [(1.0, 1.0, 1.0)] * 10,
        "cropped_share": 1.0,
        "labelled_share": 1.0,
        "intensities": [
            ChannelIntensities(
                mean=10, std=5, low=-900, fifth=-700, median=10, ninety_fifth=200, high=300
            )
        ],
        "classes": {1: ClassFingerprint(**one | (lesion or {}))},
    }
    return Fingerprint(**figures | changes)


@pytest.mark.parametrize(
    ("figures", "loss", "share", "words"),
    [
        ({}, "dice_ce", {"foreground": 1 / 3}, "Compact and of ordinary size (3.00% of a case)"),
        ({"labelled_share": 0.05}, "partial_label", {"annotated": 1.0}, "5.0% of the voxels"),
        ({"labelled_share": 0.998}, "dice_ce", {"foreground": 1 / 3}, "0.2% of unlabelled voxels"),
        ({"lesion": {"compactness": 0.3}}, "general_union", {"foreground": 0.5}, "thin"),
        (
            {
                "lesion": {
                    "components_a_case": 12,
                    "largest_share": 0.4,
                    "component_size": (5.0, 50.0, 500.0),
                }
            },
            "blob",
            {"instance": 1 / 3},
            "100 times the smallest",
        ),
        (
            {"lesion": {"voxel_share": 0.001}},
            "hardness_weighted_dice",
            {"foreground": 0.5},
            "0.10%",
        ),
    ],
)
def test_the_imbalance_decides_loss_and_sampler(figures, loss, share, words) -> None:
    plan = make_plan(dataset(lesion=1), fingerprint(**figures))
    assert plan.loss == loss
    assert plan.loss in loss_names()
    assert {k: v for k, v in plan.sampling if v} == pytest.approx(share)
    assert words in plan.reasons["loss"]
    # Where the structure is thin, its centreline weighs more, in the plan and in what is trained.
    assert plan.loss_weight == ("centerline" if loss == "general_union" else "none")
    assert chosen_loss(plan, Recipe()).weight == plan.loss_weight
    assert (", centerline weight" in decisions(plan)["loss"]) == (loss == "general_union")


def test_ct_has_one_scale_and_mr_has_none() -> None:
    ct, mr = (make_plan(dataset(name, lesion=1), fingerprint()) for name in ("ct", "T1"))
    (ct_scale,) = ct.normalization
    assert (ct_scale.scheme, ct_scale.low, ct_scale.high, ct_scale.mean) == ("ct", -900, 300, 10)
    assert mr.normalization[0].scheme == "z-score"
    stripped = make_plan(dataset("T1", lesion=1), fingerprint(cropped_share=0.5))
    assert stripped.normalization[0].scheme == "masked z-score"
    assert "CT" in make_plan(dataset(), fingerprint()).reasons["normalization"]


def test_a_ct_whose_foreground_has_one_grey_value_has_no_scale() -> None:
    flat = dict.fromkeys(("mean", "low", "fifth", "median", "ninety_fifth", "high"), 1.0)
    found = fingerprint(intensities=[ChannelIntensities(std=0, **flat)])
    for preset in ("v2", "early"):
        plan = make_plan(dataset("CT", lesion=1), found, preset=preset)
        assert plan.normalization[0].scheme == "z-score"


def test_thick_slices_are_told_of() -> None:
    thick = fingerprint(spacings_mm=[(6.0, 0.8, 0.8)] * 10, shapes=[(24, 256, 256)] * 10)
    plan = make_plan(dataset("T1", tumour=1), thick)
    assert plan.anisotropic
    assert plan.kernels[0] == (1, 3, 3)
    assert "7.5 times as thick" in plan.reasons["spacing"]
    assert "2.5D" in plan.reasons["network"]


def test_a_spacing_that_is_asked_for_is_kept_and_decides_the_rest():
    plan = make_plan(dataset("T1", tumour=1), fingerprint(), spacing_mm=(5.0, 1.5, 1.5))
    assert plan.spacing_mm == (5.0, 1.5, 1.5)
    assert plan.anisotropic
    assert plan.reasons["spacing"] == "The recipe asks for it."


def test_a_spacing_of_two_axes_does_not_fit_volumes():
    with pytest.raises(InputError) as caught:
        make_plan(dataset("T1", tumour=1), fingerprint(), spacing_mm=(1.5, 1.5))
    assert caught.value.code == "spacing-axes"


def test_the_axis_across_thick_slices_comes_first() -> None:
    """Sagittal slices: thick from left to right."""
    sagittal = fingerprint(spacings_mm=[(0.8, 0.8, 6.0)] * 10, shapes=[(256, 240, 24)] * 10)
    axial = fingerprint(spacings_mm=[(6.0, 0.8, 0.8)] * 10, shapes=[(24, 256, 240)] * 10)
    plans = [make_plan(dataset("T1", tumour=1), each) for each in (sagittal, axial)]
    assert [plan.axes for plan in plans] == [(2, 0, 1), (0, 1, 2)]
    assert plans[0].patch == plans[1].patch
    assert plans[0].kernels == plans[1].kernels
    assert plans[0].spacing_mm == plans[1].spacing_mm


class TestEarly:
    def test_the_first_rules_differ_where_they_are_known_to(self) -> None:
        now, early = (
            make_plan(dataset("CT", lesion=1), fingerprint(), preset=preset)
            for preset in ("v2", "early")
        )
        assert (now.preset, early.preset) == ("v2", "early")
        assert (now.features[0], early.features[:3]) == (32, (30, 60, 120))
        assert (now.label_interpolation, early.label_interpolation) == ("nearest", "cubic")
        (scale,) = early.normalization
        assert (scale.scheme, scale.low, scale.high) == ("ct", -700, 200)
        assert "-700 to 200 HU, 5 per cent" in early.reasons["normalization"]
        assert "cubic" in early.reasons["spacing"]
        same = {"spacing_mm", "patch", "kernels", "strides", "loss", "sampling"}
        assert early.model_dump(include=same) == now.model_dump(include=same)

    def test_a_lone_axis_is_halved_down_to_four(self) -> None:
        shapes = [(8, 7, 7)] * 10
        strides = [
            make_plan(dataset("T1", lesion=1), fingerprint(shapes=shapes), preset=preset).strides
            for preset in ("v2", "early")
        ]
        assert strides == [((1, 1, 1),), ((1, 1, 1), (2, 1, 1))]

    def test_mr_is_scaled_alike(self) -> None:
        plan = make_plan(dataset("T1", lesion=1), fingerprint(), preset="early")
        assert plan.normalization[0].scheme == "z-score"

    def test_flat_images_have_the_features_too(self) -> None:
        flat = fingerprint(
            spatial_dims=2, shapes=[(1, 300, 300)] * 10, spacings_mm=[(1.0, 1.0, 1.0)] * 10
        )
        plan = make_plan(dataset("T1", cell=1), flat, preset="early")
        assert plan.features[0] == 30
        assert max(plan.features) <= 512


@pytest.mark.parametrize("preset", ["v2", "early"])
def test_a_plan_survives_json(preset: Any) -> None:
    plan = make_plan(dataset("CT", lesion=1), fingerprint(), preset=preset)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize("preset", ["v2", "early"])
def test_every_decision_has_a_reason(preset: Any) -> None:
    plan = make_plan(dataset("CT", lesion=1), fingerprint(), preset=preset)
    decided = {"spacing", "patch", "batch", "network", "normalization", "loss", "sampling"}
    assert plan.reasons.keys() == decided
    assert all(reason.endswith(".") for reason in plan.reasons.values())


def test_hippocampus(data_folder: Path) -> None:
    found = open_dataset(data_folder / "hippocampus" / "train")
    plan = make_plan(found, measured(found))
    assert plan.patch == (40, 56, 40)
    assert plan.spacing_mm == (1.0, 1.0, 1.0)
    assert len(plan.kernels) == 4
    assert plan.loss == "dice_ce"
    assert plan.normalization[0].scheme == "z-score"


def test_quantiles_rise(data_folder: Path) -> None:
    found = measured(open_dataset(data_folder / "hippocampus" / "train"))
    (one,) = found.intensities
    assert one.low < one.fifth < one.median < one.ninety_fifth < one.high
    assert one.low < one.mean < one.high


def test_nuclei(data_folder: Path) -> None:
    found = open_dataset(data_folder / "nuclei_2d" / "train", numbered=True)
    plan = make_plan(found, measured(found))
    assert len(plan.patch) == 2
    assert plan.loss == "blob"
    assert plan.labels == {0: "background", 1: "instance"}


def _datalist(folder: Path, image: Path, label: Path) -> Path:
    path = folder / "list.json"
    path.write_text(json.dumps({"training": [{"image": str(image), "label": str(label)}]}))
    return path


def test_ms_lesions_are_scattered(data_folder: Path, tmp_path: Path) -> None:
    lesions = data_folder / "ms_lesions_mni"
    path = _datalist(
        tmp_path, lesions / "patient19_flair.nii.gz", lesions / "patient19_lesions.nii.gz"
    )
    found = open_dataset(path)
    figures = measured(found)
    plan = make_plan(found, figures)
    assert figures.classes[1].components_a_case == 98
    assert plan.loss == "blob"
    assert plan.normalization[0].scheme == "masked z-score"


def test_a_tumour_in_thick_slices(data_folder: Path, tmp_path: Path) -> None:
    brain = data_folder / "tumour_brain_aniso"
    found = open_dataset(
        _datalist(tmp_path, brain / "brain1_image.nrrd", brain / "brain1_label.nrrd")
    )
    plan = make_plan(found, measured(found))
    assert plan.anisotropic
    assert plan.kernels[0] == (1, 3, 3)
    assert plan.loss == "hardness_weighted_dice"


def test_an_organ_in_thick_slices(data_folder: Path, tmp_path: Path) -> None:
    spleen = data_folder / "spleen_crop"
    path = _datalist(tmp_path, spleen / "ct.nii.gz", spleen / "spleen.nii.gz")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"channel_names": {"0": "CT"}}))
    found = open_dataset(path)
    plan = make_plan(found, measured(found))
    assert plan.anisotropic
    assert plan.loss == "dice_ce"
    assert plan.normalization[0].scheme == "ct"
    # Soft tissue: nothing of the lung, nothing of bone.
    assert -50 < plan.normalization[0].low < 0 < plan.normalization[0].high < 200


def test_specks_beside_one_tumour_are_told_of(data_folder: Path, tmp_path: Path) -> None:
    """Labels fused from algorithms: oedema is one region and four specks."""
    glioma = data_folder / "tumour_glioma"
    found = open_dataset(
        _datalist(tmp_path, glioma / "bet_t1c.nii.gz", glioma / "seg_fusion_simple.nii.gz")
    )
    plan = make_plan(found, measured(found))
    assert plan.loss == "blob"
    assert "5 instances a case (class 2)" in plan.reasons["loss"]
    assert "98% of the voxels: if the others are noise" in plan.reasons["loss"]


def test_a_bronchial_tree_is_thin(data_folder: Path, tmp_path: Path) -> None:
    mask = data_folder / "airway_atm22_masks" / "case305_timi.nii.gz"
    found = open_dataset(_datalist(tmp_path, mask, mask))
    assert make_plan(found, measured(found)).loss == "general_union"


class TestCommand:
    def test_a_plan_is_printed_and_written(self, data_folder: Path, tmp_path: Path) -> None:
        train = data_folder / "hippocampus" / "train"
        done = CliRunner().invoke(app, ["plan", str(train), "-o", str(tmp_path / "out")])
        assert done.exit_code == 0, done.output
        assert "patch: 40 x 56 x 40 voxels" in done.stdout
        plan = Plan.model_validate_json((tmp_path / "out" / "plan.json").read_text())
        assert all(reason in done.stdout for reason in plan.reasons.values())
        Fingerprint.model_validate_json((tmp_path / "out" / "fingerprint.json").read_text())
        printed = CliRunner().invoke(app, ["plan", str(train), "--json"])
        assert Plan.model_validate(json.loads(printed.stdout)) == plan
        early = CliRunner().invoke(app, ["plan", str(train), "--json", "--preset", "early"])
        other = Plan.model_validate(json.loads(early.stdout))
        assert (other.preset, other.features[0]) == ("early", 30)


def test_another_patch_has_a_network_of_its_own() -> None:
    plan = make_plan(dataset(), fingerprint())
    smaller = with_patch(plan, (20, 20, 20))
    assert all(n % 4 == 0 and n >= 20 for n in smaller.patch)
    assert len(smaller.strides) < len(plan.strides)
    assert len(smaller.features) == len(smaller.kernels) == len(smaller.strides)
    assert smaller.reasons["patch"] == "The recipe asks for it."
    with pytest.raises(InputError, match="2 axes"):
        with_patch(plan, (20, 20))
