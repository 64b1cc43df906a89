from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from hypothesis import strategies as st

from imbalanceseg.errors import GeometryError, InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.inference.hardness import annotated_hardness, disagreement, entropy
from imbalanceseg.inference.segment import segment

from .planned import brain, planned_model, thick_plan, turned_grid
from .test_segment import textured, voxels  # noqa: F401


def sure(*classes: int, count: int = 3) -> list[torch.Tensor]:
    """Certain opinions on one voxel."""
    return [torch.eye(count)[c].reshape(1, count, 1) for c in classes]


@pytest.mark.parametrize(
    ("opinions", "expected"),
    [((0, 0), 0.0), ((0, 1), 1.0), ((0, 1, 2), 1.0), ((0, 0, 1), 2 / 3), ((2, 2, 2, 2), 0.0)],
)
def test_disagreement_is_the_share_of_pairs_that_are_sure_of_something_else(opinions, expected):
    assert float(disagreement(sure(*opinions))) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=2))
def test_of_one_class_and_two_opinions_it_is_the_absolute_difference(pair):
    single = [torch.tensor(p).reshape(1, 1, 1) for p in pair]
    both = [torch.tensor([1 - p, p]).reshape(1, 2, 1) for p in pair]
    for opinions in (single, both):
        assert float(disagreement(opinions)) == pytest.approx(abs(pair[0] - pair[1]), abs=1e-6)


@given(st.floats(0, 1, width=32))
def test_entropy_is_0_where_sure_and_1_where_undecided(p):
    one = entropy(torch.tensor([[p]]))
    two = entropy(torch.tensor([[1 - p], [p]]))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)
    assert 0 <= float(one) <= 1
    assert float(entropy(torch.tensor([[0.5]]))) == pytest.approx(1)
    assert float(entropy(torch.full((4, 1), 0.25))) == pytest.approx(1)
    assert float(entropy(torch.tensor([[0.0], [1.0], [0.0]]))) == 0


def test_what_was_annotated_tells_how_wrong_the_network_is():
    grid = Grid((4, 1, 1), (1.0, 1.0, 3.0), (5.0, 6.0, 7.0), (0, 1, 0, 1, 0, 0, 0, 0, -1))
    hardness, probability = (
        image_from_array(np.array(v, np.float32).reshape(1, 1, 4), grid)
        for v in ([0.1, 0.2, 0.3, 0.4], [0.9, 0.9, 0.25, 0.6])
    )
    annotation = image_from_array(np.array([1, 0, 2, 255], np.uint8).reshape(1, 1, 4), grid)
    found = annotated_hardness(hardness, probability, annotation)
    assert Grid.of(found) == grid
    np.testing.assert_allclose(voxels(found).ravel(), [0.1, 0.9, 0.75, 0.4], atol=1e-6)
    with pytest.raises(GeometryError):
        annotated_hardness(hardness, probability, annotation[:3])


@pytest.mark.parametrize("kind", ["pruning", "entropy", "tta"])
def test_every_kind_is_a_share_on_the_image_s_grid(kind, textured, random_model):  # noqa: F811
    found = segment(textured, random_model, maps=("hardness",), hardness=kind)
    assert found.hardness_kind == kind
    assert Grid.of(found.hardness) == Grid.of(textured)
    assert found.hardness.GetPixelID() == sitk.sitkFloat32
    values = voxels(found.hardness)
    assert 0 <= values.min() < values.max() <= 1


def test_entropy_follows_the_probability(textured, random_model):  # noqa: F811
    found = segment(textured, random_model, maps=("hardness",), hardness="entropy")
    p = voxels(found.probability)
    expected = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    np.testing.assert_allclose(voxels(found.hardness), expected, atol=1e-3)


def test_mirrored_hardness_leaves_the_probability_as_it_is(textured, random_model):  # noqa: F811
    plain = segment(textured, random_model, maps=())
    found = segment(textured, random_model, maps=("hardness",), hardness="tta")
    np.testing.assert_allclose(voxels(found.probability), voxels(plain.probability), atol=1e-5)


def test_networks_of_an_ensemble_disagree(tmp_path):
    images = [brain(seed, turned_grid()) for seed in (1, 2)]
    model, _ = planned_model(tmp_path / "folds", thick_plan(), 4, count=2)
    found = segment(images, model, maps=("hardness",), hardness="ensemble")
    assert found.hardness_kind == "ensemble"
    assert voxels(found.hardness).max() > 0.05
    same, _ = planned_model(tmp_path / "single", thick_plan(), 4)
    alone = segment(images, same, maps=("hardness",), hardness="ensemble")
    assert alone.hardness is None
    assert any("single network" in note for note in alone.notes)


def test_the_kind_is_the_card_s_unless_another_is_asked_for(
    textured,  # noqa: F811
    random_network,
    make_model,
):
    model = make_model(random_network, hardness={"kind": "entropy"})
    assert segment(textured, model, maps=("hardness",)).hardness_kind == "entropy"
    assert segment(textured, model, maps=()).hardness_kind is None
    with pytest.raises(InputError) as refused:
        segment(textured, model, maps=("hardness",), hardness="feeling")
    assert refused.value.code == "hardness-unknown"


def test_every_level_of_attention_is_given_and_their_mean(textured, random_model):  # noqa: F811
    found = segment(textured, random_model, maps=("attention", "attention-levels"))
    assert len(found.attention_levels) == 6
    stack = np.stack([voxels(level) for level in found.attention_levels])
    assert stack.min() >= 0
    assert stack.max() <= 1
    assert len({sitk.Hash(level) for level in found.attention_levels}) == 6
    np.testing.assert_allclose(stack.mean(0), voxels(found.attention), atol=1e-5)
    for level in found.attention_levels:
        assert Grid.of(level) == Grid.of(textured)
