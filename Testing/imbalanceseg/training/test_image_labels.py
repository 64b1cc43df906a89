"""Learning from images of which only the classes that they show are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from imbalanceseg.inference.segment import segment
from imbalanceseg.io import write_json
from imbalanceseg.planning.imbalance import Sampling
from imbalanceseg.planning.prepare import PreparedCase
from imbalanceseg.training.patches import PatchSource
from imbalanceseg.training.recipe import Recipe
from imbalanceseg.training.train import split_cases, start_run, train

from .test_patches import PLAIN, Prepare, make_cases  # noqa: F401

pytest.importorskip("blosc2")
SIDE, CASES = 32, 20


def disc(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and where its disc is; every other image has none."""
    draw = np.random.default_rng(number)
    y, x = np.indices((SIDE, SIDE)) - draw.uniform(8, SIDE - 8, (2, 1, 1))
    mask = (y**2 + x**2 < 16) & (number % 2 == 0)
    return np.clip(draw.normal(90, 12, mask.shape) + 80 * mask, 1, 255).astype(np.uint8), mask


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("discs")
    (folder / "images").mkdir()
    rows = ["case,disc"]
    for number in range(CASES):
        image = sitk.GetImageFromArray(disc(number)[0])
        sitk.WriteImage(image, folder / "images" / f"c{number}.png")
        rows.append(f"c{number},{int(number % 2 == 0)}")
    (folder / "image_labels.csv").write_text("\n".join(rows) + "\n")
    write_json(
        folder / "dataset.json",
        {"channel_names": {"0": "photo"}, "labels": {"background": 0, "disc": 1}},
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("hard", ["off", "on"])
def test_where_a_disc_is_follows_from_whether_there_is_one(
    discs: Path, tmp_path: Path, hard: str
) -> None:
    recipe = Recipe.model_validate(
        {
            "network": {"name": "unet2d", "settings": {"features": [8, 16], "dropout": 0.0}},
            "augmentation": PLAIN.model_dump(),
            "patch": [SIDE, SIDE],
            "batch": 8,
            "optimizer": {"name": "adamw", "learning_rate": 1e-2},
            "image_labels": 1.0,
            "hard_samples": hard,
            "precision": "float32",
        }
    )
    start_run(discs, tmp_path, recipe, "test", seed=1, iterations=150)
    trained = train(tmp_path, "cpu")
    assert trained is not None
    assert trained.outcome.cases == ()
    found = []
    for number in (100, 102, 101):
        image, mask = disc(number)
        labels = segment(sitk.GetImageFromArray(image), trained.model, device="cpu", maps=()).labels
        found.append((sitk.GetArrayFromImage(labels) > 0, mask))
    # By chance Dice would be 0.05; of outlines nothing is ever said.
    for said, mask in found[:2]:
        assert 2 * (said & mask).sum() / (said.sum() + mask.sum()) > 0.3
    assert found[2][0].sum() < 10


def test_they_are_never_held_out(tmp_path: Path) -> None:
    cases = [
        PreparedCase(str(n), tmp_path, (4, 4), shows=(True,) if n >= 4 else None) for n in range(8)
    ]
    for folds in (1, 2):
        for split in split_cases(cases, folds, seed=1):
            assert all(case.shows is None for case in split.validation)
            assert {case.name for case in split.training} >= {"4", "5", "6", "7"}
    (only,) = split_cases(cases[4:], 1, seed=1)
    assert (len(only.training), only.validation) == (4, [])


def test_part_of_an_image_may_lack_what_the_whole_shows(
    make_cases: Prepare,  # noqa: F811
) -> None:
    draw = np.random.default_rng(0)
    pairs = [(draw.integers(1, 9, (16, 16), np.uint8), np.eye(16, dtype=np.uint8))] * 3
    cases, plan = make_cases(*pairs)
    shown = [None, (True, False), (False, False)]
    marked = [replace(case, shows=shows) for case, shows in zip(cases, shown, strict=True)]

    def rows(side: int) -> set[tuple[float, ...]]:
        source = PatchSource(marked, (side, side), Sampling(), PLAIN, plan.spacing_mm, False, 1)
        shows = source.batch(0, 24).shows
        assert shows is not None
        return {tuple(row) for row in torch.nan_to_num(shows, nan=-1).tolist()}

    assert rows(16) == {(-1, -1), (1, 0), (0, 0)}
    assert rows(8) == {(-1, -1), (-1, 0), (0, 0)}
