"""What a training is judged by in the end."""

import pytest
import torch

from imbalanceseg.planning.dataset import open_dataset
from imbalanceseg.planning.prepare import prepare
from imbalanceseg.progress import ignore_progress
from imbalanceseg.training.build import build_network
from imbalanceseg.training.checkpoint import Standing
from imbalanceseg.training.outcome import Member, judge
from imbalanceseg.training.recipe_files import read_recipe
from imbalanceseg.training.train import read_run, start_run


@pytest.mark.parametrize(
    ("changed", "judged"),
    [({}, True), ({"judge_mirrored": False}, False), ({"augmentation": {"mirror": 0}}, False)],
)
def test_mirrored_copies_are_judged_where_training_mirrors_and_the_recipe_wants_it(
    balls, small_recipe, tmp_path, changed, judged
):
    start_run(balls, tmp_path, read_recipe(small_recipe), iterations=1)
    run = read_run(tmp_path)
    assert run.recipe.augmentation.mirror
    recipe = run.recipe.model_validate(run.recipe.model_dump() | changed)
    case = prepare(open_dataset(balls), run.plan, tmp_path / "prepared")[:1]
    network = build_network(run.plan, recipe, 0).eval()
    member = Member(network, case, tmp_path, Standing(batch=1))
    found = judge(run.plan, recipe, [member], 0, torch.device("cpu"), ignore_progress)
    assert len(found.dice) == 1
    assert bool(found.mirrored) == judged
