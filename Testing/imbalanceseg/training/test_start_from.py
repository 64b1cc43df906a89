"""Training begins with the weights of a model, and nothing else of it is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from typer.testing import CliRunner

from imbalanceseg.cli.main import app
from imbalanceseg.errors import InputError, ModelError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.models.bundle import Model, load_model
from imbalanceseg.models.write import write_bundle
from imbalanceseg.networks import create_network
from imbalanceseg.training.recipe import Recipe
from imbalanceseg.training.recipe_files import read_recipe
from imbalanceseg.training.start_from import begin_with, recipe_of_model
from imbalanceseg.training.train import read_run, start_run, train

GRID = Grid((20, 18, 12), (0.9, 0.9, 2.0), (-3.0, 4.0, 5.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four CT with a bright box each."""
    folder = tmp_path_factory.mktemp("dataset")
    draw = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number in range(4):
        label = np.zeros(GRID.size[::-1], np.uint8)
        label[3:7, 4:11, 5 : 12 + number] = 1
        values = (draw.normal(-500, 60, label.shape) + 400.0 * label).astype(np.int16)
        for part, array in (("images", values), ("labels", label)):
            sitk.WriteImage(image_from_array(array, GRID), str(folder / part / f"{number}.nrrd"))
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "box": 1}}
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


@pytest.fixture
def model(make_card, tmp_path: Path) -> Model:  # type: ignore[no-untyped-def]
    torch.manual_seed(5)
    network = create_network("wingsnet", width=0.25, tile_invariant=True).eval()
    card = make_card(
        name="parent",
        spacing_mm=(1.5, 1.25, 2.5),
        network={"name": "wingsnet", "kwargs": {"width": 0.25, "tile_invariant": True}},
    )
    return write_bundle(tmp_path / "parent", network, card)


def test_a_training_without_steps_that_matter_is_the_model(
    dataset: Path, model: Model, tmp_path: Path
) -> None:
    recipe = Recipe.model_validate(
        {"optimizer": {"learning_rate": 1e-12, "weight_decay": 0}, "patch": [16, 16, 16]}
    )
    run = start_run(dataset, tmp_path, recipe, iterations=1, start_from=model.path)
    assert run.plan.spacing_mm == (2.5, 1.25, 1.5)
    assert run.plan.normalization == tuple(c.normalization for c in model.card.channels)
    made = train(tmp_path, "cpu")
    assert made is not None
    assert made.model.card.network.kwargs["width"] == 0.25
    assert "weights of parent" in made.model.card.description
    assert made.model.card.training_data[1:] == model.card.training_data
    ours, theirs = (m.networks[0].state_dict() for m in (made.model, model))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-3)


def test_heads_that_only_training_has_keep_their_own(make_card, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    kwargs = load_model("lesion").card.network.kwargs | {"deep_supervision": False}
    card = make_card(name="flat", network={"name": "nnunet", "kwargs": kwargs})
    flat = write_bundle(tmp_path / "flat", create_network("nnunet", **kwargs).eval(), card)
    network = create_network("nnunet", **kwargs | {"deep_supervision": True})
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    begin_with(network, flat)
    begun = flat.networks[0].state_dict()
    assert begun.keys() < before.keys()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, begun.get(name, before[name]))


@pytest.mark.parametrize(
    ("name", "recipe", "kind"),
    [
        ("airway", "airway", "group"),
        ("tumor", "tumor", "attention"),
        ("lesion", "default", "deep"),
        ("airway", "tumor", "output"),
        ("tumor", "default", "output"),
    ],
)
def test_shipped_models_supervise_what_they_have(name: str, recipe: str, kind: str) -> None:
    made = recipe_of_model(read_recipe(recipe), load_model(name))
    assert made.supervision.kind == kind
    assert made.network.name == load_model(name).card.network.name
    assert made.spacing_mm is not None
    assert sorted(made.spacing_mm) == sorted(load_model(name).card.spacing_mm or ())


def test_another_or_a_damaged_model_is_refused(
    dataset: Path, model: Model, tmp_path: Path, make_card
) -> None:  # type: ignore[no-untyped-def]
    network = create_network("wingsnet", in_channels=2, width=0.25)
    two = [{"name": name, "normalization": {"scheme": "z-score"}} for name in ("T1", "T2")]
    card = make_card(
        name="two",
        network={"name": "wingsnet", "kwargs": {"in_channels": 2, "width": 0.25}},
        channels=two,
    )
    other = write_bundle(tmp_path / "two", network, card)
    with pytest.raises(InputError, match="number of channels: 2 and 1"):
        start_run(dataset, tmp_path, read_recipe("default"), start_from=other.path)
    weights = model.path / "models" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ModelError, match="damaged"):
        start_run(dataset, tmp_path, read_recipe("default"), start_from=model.path)
    assert not (tmp_path / "run.json").exists()
    with pytest.raises(ModelError, match="no model named"):
        start_run(dataset, tmp_path, read_recipe("default"), start_from="no-such")


def test_command_line_starts_and_resumes_with_the_same_model_only(
    dataset: Path, model: Model, tmp_path: Path
) -> None:
    place = tmp_path / "run"
    base = ["train", str(dataset), "-o", str(place), "--progress", "none"]
    start = [*base, "--start-from", str(model.path), "--iterations", "2"]
    result = CliRunner().invoke(app, start)
    assert result.exit_code == 0, result.output
    assert read_run(place).start_from == str(model.path.resolve())
    again = CliRunner().invoke(app, [*base, "--resume", "--start-from", str(model.path)])
    assert again.exit_code == 0, again.output
    other = CliRunner().invoke(app, [*base, "--resume", "--start-from", "airway"])
    assert other.exit_code != 0
    assert "--start-from" in str(other.exception)
