"""Shipped recipes can be used; whatever is wrong with one is told with its line and what may be."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imbalanceseg.errors import ImbalanceSegError, InputError
from imbalanceseg.losses import create_loss, loss_names
from imbalanceseg.networks import create_network, network_names
from imbalanceseg.planning.imbalance import Sampling
from imbalanceseg.training import recipe_files
from imbalanceseg.training.recipe import Recipe
from imbalanceseg.training.recipe_files import RecipeFaultsError, read_recipe, recipe_names

PAPERS = {
    "action",
    "mean-teacher",
    "blob-lesion",
    "nnunet",
    "nnunet-early",
    "ternausnet",
    "two-pathway",
    "unet",
    "unet2d5-vs",
    "unet3d-sparse",
    "vnet",
    "wingsnet",
}
SHIPPED_MODELS = {"airway", "lesion", "tumor"}
DOCUMENTED = Path(recipe_files.__file__).parents[3] / "Docs" / "recipes.md"

GOOD = """\
description: a good one
network:
  name: unet2d5
  settings: {layout: paper, dropout: 0.1}
loss:
  name: dice_ce
  settings: {smooth: 1e-5}
supervision: {kind: attention, weight: 0.5}
schedule:
  name: poly
  power: 0.9
augmentation: {zoom_range: [0.8, 1.2]}
sampling: {foreground: 0.5}
patch: [16, 64, 64]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def faults_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(RecipeFaultsError) as caught:
        read_recipe(written(folder, text))
    assert caught.value.code == "recipe-faults"
    return caught.value.message.splitlines()


class TestShipped:
    def test_there_is_one_for_every_paper_and_one_for_none(self) -> None:
        assert set(recipe_names()) == PAPERS | SHIPPED_MODELS | {"default"}

    @pytest.mark.parametrize("name", recipe_names())
    def test_network_and_loss_can_be_made(self, name: str) -> None:
        recipe = read_recipe(name)
        assert recipe.description.endswith(".")
        if recipe.network.name != "plan":
            with torch.device("meta"):
                network = create_network(
                    recipe.network.name,
                    in_channels=1,
                    out_channels=1 if recipe.loss.name == "general_union" else 2,
                    **recipe.network.settings,
                )
            sides = recipe.patch or network.multiples()
            assert all(s % m == 0 for s, m in zip(sides, network.multiples(), strict=True))
        if recipe.loss.name != "plan":
            logits = torch.zeros(1, 2, 8, 8)
            if recipe.loss.name == "general_union":
                logits = logits[:, :1]
            target = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
            target[..., 2:5, 2:5] = 1
            loss = create_loss(recipe.loss.name, **recipe.loss.settings)
            assert torch.isfinite(loss(logits, target))

    @pytest.mark.parametrize("name", sorted(PAPERS | SHIPPED_MODELS))
    def test_a_paper_says_how_long_and_where_it_comes_from(self, name: str) -> None:
        assert read_recipe(name).iterations
        first = (recipe_files._SHIPPED / f"{name}.yaml").read_text().splitlines()[0]
        assert first.startswith("# ")
        assert "et al." in first or " and " in first

    @pytest.mark.parametrize("name", recipe_names())
    def test_each_is_documented(self, name: str) -> None:
        assert f"| `{name}` |" in DOCUMENTED.read_text(encoding="utf-8")

    def test_the_documented_example_and_its_errors_are_true(self, tmp_path: Path) -> None:
        text = DOCUMENTED.read_text(encoding="utf-8")
        example = text.split("```yaml\n")[1].split("```")[0]
        assert read_recipe(written(tmp_path, example)).loss.weight == "local_imbalance"
        for good, bad in (
            ("norm:", "nrom:"),
            ("poly", "polly"),
            ("foreground: 0.5", "foreground: 1.5"),
        ):
            example = example.replace(good, bad)
        for fault in faults_of(tmp_path, example):
            assert fault in text

    def test_figures_of_the_papers(self) -> None:
        vnet, nnunet, early = (read_recipe(name) for name in ("vnet", "nnunet", "nnunet-early"))
        assert (vnet.optimizer.name, vnet.optimizer.momentum) == ("sgd", 0.99)
        assert (vnet.schedule.milestones, vnet.iterations, vnet.batch) == ((0.8333,), 30_000, 2)
        assert nnunet.optimizer.learning_rate == 0.01
        assert nnunet.sampling == Sampling(foreground=0.33)
        assert early.preset == "early"
        assert early.optimizer.learning_rate * early.schedule.lowest == pytest.approx(
            1e-6, rel=1e-2
        )
        blob = read_recipe("blob-lesion").loss.settings
        assert blob["global_weight"] == 2 * blob["blob_weight"]

    def test_the_one_for_none_leaves_the_choice_to_the_plan(self) -> None:
        recipe = read_recipe("default")
        assert recipe.network.name == recipe.loss.name == "plan"
        assert recipe.sampling is None
        assert recipe.supervision.kind == "deep"


def test_a_file_is_read_as_it_says(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, GOOD))
    assert recipe.network.settings == {"layout": "paper", "dropout": 0.1}
    assert recipe.loss.settings == {"smooth": 1e-5}
    assert recipe.patch == (16, 64, 64)
    assert recipe.augmentation.zoom_range == (0.8, 1.2)
    assert recipe.optimizer == Recipe().optimizer


def test_a_byte_order_mark_and_windows_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_recipe(path) == read_recipe(written(tmp_path, GOOD))


def test_an_alias_stands_for_what_it_names(tmp_path: Path) -> None:
    text = "ema: &half 0.5\nsampling: {foreground: *half}\n"
    assert read_recipe(written(tmp_path, text)).sampling == Sampling(foreground=0.5)


@pytest.mark.parametrize(
    ("good", "bad", "line", "sentence"),
    [
        (
            "name: poly",
            "name: polly",
            10,
            "schedule.name is 'polly'; allowed: poly, cosine, plateau, steps, constant.",
        ),
        ("power:", "pwer:", 11, "schedule.pwer is unknown; nearest allowed: power."),
        (
            "power:",
            "wonder:",
            11,
            "schedule.wonder is unknown; allowed: name, warmup, power, factor, patience, "
            "milestones, lowest.",
        ),
        (
            "power: 0.9",
            "power: 0.9\n  name: cosine",
            12,
            "schedule.name stands here again, first on line 10.",
        ),
        ("power: 0.9", "power: 0", 11, "schedule.power is 0; allowed: a number above 0."),
        ("power: 0.9", "power: true", 11, "schedule.power is true; allowed: a number above 0."),
        ("power: 0.9", "power: '1'", 11, "schedule.power is '1'; allowed: a number above 0."),
        ("power: 0.9", "power:", 11, "schedule.power is empty; allowed: a number above 0."),
        (
            "power: 0.9",
            "power: 1e999",
            11,
            "schedule.power is '1e999'; allowed: text, finite numbers, true, false, null.",
        ),
        ("power: 0.9", "lowest: 1", 11, "schedule.lowest is 1; allowed: a number of at least 0 and "
         "below 1."),
        (
            "foreground: 0.5",
            "foreground: 1.5",
            13,
            "sampling.foreground is 1.5; allowed: a number from 0 to 1.",
        ),
        (
            "foreground: 0.5",
            "foreground: 0.5, instance: 0.6",
            13,
            "sampling: the shares add up to more than 1.",
        ),
        (
            "[0.8, 1.2]",
            "[1.2, 0.8]",
            12,
            "augmentation: the smallest factor of zoom_range is larger than the largest.",
        ),
        (
            "patch: [16, 64, 64]",
            "intensity_range: [400, -1000]",
            14,
            "intensity_range: the lowest value does not lie below the highest.",
        ),
        (
            "[0.8, 1.2]",
            "[0.8]",
            12,
            "augmentation.zoom_range is too short; allowed: a list of 2, each item a number above "
            "0.",
        ),
        (
            "patch: [16, 64, 64]",
            "patch:\n- 16\n- 64\n- x",
            17,
            "patch item 3 is 'x'; allowed: a whole number from 1 to 1024.",
        ),
        (
            "patch: [16, 64, 64]",
            "patch: [16]",
            14,
            "patch is a list of 1; allowed: a list of 2 or 3, each item a whole number from 1 to "
            "1024 or null.",
        ),
        (
            "name: unet2d5",
            "name: unet4d",
            3,
            "network.name is 'unet4d'; allowed: plan, " + ", ".join(network_names()) + ".",
        ),
        (
            "layout: paper",
            "layuot: paper",
            4,
            "network.settings.layuot is unknown; nearest allowed: layout.",
        ),
        (
            "layout: paper",
            "in_channels: 3",
            4,
            "network.settings.in_channels is unknown; nearest allowed: out_channels.",
        ),
        (
            "dropout: 0.1",
            "dropout: much",
            4,
            "network.settings.dropout is 'much'; dropout allows a number.",
        ),
        (
            "name: dice_ce",
            "name: dice_c",
            6,
            "loss.name is 'dice_c'; allowed: plan, " + ", ".join(loss_names()) + ".",
        ),
        (
            "smooth:",
            "smoth:",
            7,
            "loss.settings.smoth is unknown; nearest allowed: smooth.",
        ),
        (
            "settings: {smooth: 1e-5}",
            "weight: border",
            7,
            "loss.weight is 'border'; allowed with dice_ce: none.",
        ),
        (
            "kind: attention",
            "kind: deep",
            8,
            "supervision.kind is 'deep'; allowed with the network unet2d5: output, attention.",
        ),
        (
            "dropout: 0.1",
            "attention: false",
            8,
            "supervision.kind is 'attention'; allowed without attention: output.",
        ),
        (
            "description: a good one",
            "descripton: a good one",
            1,
            "descripton is unknown; nearest allowed: description.",
        ),
        (
            "schedule:\n  name: poly\n  power: 0.9",
            "schedule: poly",
            9,
            "schedule is 'poly'; allowed: a mapping with the keys name, warmup, power, factor, "
            "patience, milestones, lowest.",
        ),
        ("description: a good one", "? [a]\n: b", 1, "the recipe has a key that is not a word."),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_line(
    tmp_path: Path, good: str, bad: str, line: int, sentence: str
) -> None:
    assert GOOD.count(good) == 1
    assert faults_of(tmp_path, GOOD.replace(good, bad)) == [f"recipe.yaml line {line}: {sentence}"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "network: {settings: {width: 3}}",
            "allowed: features, kernels, norm, out_channels, strides.",
        ),
        ("loss: {weight: border}", "loss.weight is 'border'; allowed where the plan chooses: none"),
        ("loss: {settings: {alpha: 1}}", "loss.settings.alpha is unknown; "),
        ("supervision: {kind: group}", "allowed with the network plan: output, deep."),
        (
            "network: {name: unet3d, settings: {features: [8, 16, true]}}",
            "network.settings.features item 3 is true; features allows a list, each item a whole",
        ),
        (
            "network: {name: ternausnet, settings: {width: 3}}",
            "width is unknown; allowed: out_channels.",
        ),
    ],
)
def test_what_does_not_fit_together_is_told(tmp_path: Path, text: str, sentence: str) -> None:
    (fault,) = faults_of(tmp_path, text)
    assert fault.startswith("recipe.yaml line 1: ")
    assert sentence in fault


def test_all_faults_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    bad = GOOD.replace("poly", "polly").replace("dice_ce", "dice_c").replace("0.5", "5")
    bad = bad.replace("power: 0.9", "power: 1e999")
    faults = faults_of(tmp_path, bad + "batch: 0\nbatch: 2\n")
    lines = [int(fault.split(":")[0].rsplit(" ", 1)[1]) for fault in faults]
    assert lines == [6, 10, 11, 13, 15, 16]


def test_the_error_travels_between_processes(tmp_path: Path) -> None:
    with pytest.raises(RecipeFaultsError) as caught:
        read_recipe(written(tmp_path, "batch: 0"))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.faults, again.message) == (caught.value.faults, caught.value.message)


_BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in pairwise("abcdefg")
)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "yaml-invalid", "is empty"),
        ("# nothing\n", "yaml-invalid", "is empty"),
        ("- a\n- b\n", "yaml-invalid", "holds a list"),
        ("poly", "yaml-invalid", "holds one value"),
        ("batch: 2\na: b: c\n", "yaml-invalid", "line 2 cannot be read: mapping values"),
        ("batch: [1\n", "yaml-invalid", "line 2 cannot be read"),
        ("a: b\n---\nc: d\n", "yaml-invalid", "another document"),
        ("a: *b\n", "yaml-invalid", "undefined alias"),
        ("a: b\nc: \x00\n", "yaml-invalid", "line 2 cannot be read: it holds the character U+0000"),
        ('a: "\\U00110000"\n', "yaml-invalid", "escaped character"),
        ("[" * 3000, "yaml-invalid", "nested too deeply"),
        ("- 1\n" * 20_000, "yaml-invalid", "more than 10,000 values"),
        (_BOMB, "yaml-too-large", "more than 10,000 values"),
        ("a: &a [*a]\n", "yaml-too-large", "nested more than 20 deep"),
        ("a: " + "x" * (1 << 20), "yaml-too-large", "1,048,579 bytes"),
        ("a: !!python/name:os.system x\n", "recipe-faults", "a is 'x'; allowed: text"),
        ('description: "\\ud800"\n', "recipe-faults", "description is "),
        ("batch: " + "9" * 5000 + "\n", "recipe-faults", "batch is '999"),
    ],
)
def test_what_is_no_mapping_in_yaml_is_refused(
    tmp_path: Path, text: str, code: str, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_recipe(written(tmp_path, text))
    assert caught.value.code == code
    assert caught.value.message.startswith("recipe.yaml ")
    assert words in caught.value.message


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("unte", "recipe-unknown", "nearest allowed: unet"),
        ("", "recipe-unknown", "allowed: action, airway"),
        ("nowhere.yaml", "yaml-missing", "nowhere.yaml"),
        ("/nowhere/unet", "yaml-missing", "/nowhere/unet"),
        ("/", "yaml-unreadable", "cannot be read"),
        ("a\0b.yaml", "yaml-unreadable", "cannot be read"),
    ],
)
def test_a_recipe_that_is_not_there_is_told_of(name: str, code: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_recipe(name)
    assert caught.value.code == code
    assert words in caught.value.message


_WHOLE = [(recipe_files._SHIPPED / f"{name}.yaml").read_text() for name in recipe_names()]
_PIECES = [
    "", " ", "\n", "  ", "\t", ":", ": ", "- ", "[", "]", "{", "}", ",", "&a ", "*a", "!!int ",
    "? ", "|\n", "'", '"', "\\", "#", "%", "---\n", "null", "true", "-1", "1e400", "9" * 400,
    "nan", "\x85", "\ufeff", "é", "name: ", "settings: {", "plan", "patch: []\n", "<<: ",
]  # fmt: skip


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from([GOOD, *_WHOLE]),
    st.lists(
        st.tuples(
            st.floats(0, 1),
            st.integers(0, 12),
            st.sampled_from(_PIECES) | st.text(max_size=4),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_a_mutated_recipe_is_read_or_refused(tmp_path: Path, text: str, cuts: list) -> None:
    for where, length, piece in cuts:
        start = int(where * len(text))
        text = text[:start] + piece + text[start + length :]
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        recipe = read_recipe(path)
    except ImbalanceSegError:
        return
    assert isinstance(recipe, Recipe)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
