"""Classes that nobody looked for stay as the network had them."""

from __future__ import annotations

import pytest
import torch

from imbalanceseg.networks.voxel_classifier import VoxelClassifier
from imbalanceseg.training.painted_rows import Lesson, Rows, logits_of, teach


@pytest.fixture
def rows() -> Rows:
    """Four classes, of which the first alone is to be told from everything else."""
    generator = torch.Generator().manual_seed(2)
    columns = torch.randn(6, 500, generator=generator)
    start = torch.randn(4, 500, generator=generator)
    return Rows(columns, start, (columns[0] > 0).long())


@pytest.mark.parametrize("classes", [(1,), (1, 3)])
def test_odds_of_classes_that_nobody_looked_for_stay(rows: Rows, classes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    classifier = VoxelClassifier(6, 4, 8, from_zero=True)
    generator = torch.Generator().manual_seed(0)
    teach(classifier, Lesson(rows, classes=classes), generator, steps=150)
    assert rows.start is not None
    change = logits_of(classifier, rows).detach() - rows.start
    for other in {1, 2, 3} - set(classes):
        torch.testing.assert_close(change[other], change[0], atol=1e-5, rtol=1e-4)
    assert (change[1] - change[0]).abs().max() > 1
    found = logits_of(classifier, rows).softmax(0)[1] > 0.5
    assert (found == (rows.target == 1)).float().mean() > 0.9


def test_where_all_classes_were_looked_for_all_change(rows: Rows) -> None:
    torch.manual_seed(0)
    classifier = VoxelClassifier(6, 4, 8, from_zero=True)
    teach(classifier, Lesson(rows), torch.Generator().manual_seed(0), steps=60)
    assert rows.start is not None
    change = logits_of(classifier, rows).detach() - rows.start
    assert (change[2] - change[0]).abs().max() > 0.1
