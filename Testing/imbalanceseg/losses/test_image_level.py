"""What is known of an image as a whole: identities, limits, and where the gradient goes."""

from __future__ import annotations

from math import log, nan

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import softplus

from imbalanceseg.losses import image_level_loss

SHOWN, LACKING, OPEN = (torch.tensor([[x]]) for x in (1.0, 0.0, nan))


@pytest.mark.parametrize("shape", [(8, 8), (4, 6, 5)])
def test_of_an_even_map_it_is_the_cross_entropy_of_its_value(shape: tuple[int, ...]) -> None:
    logits = torch.full((1, 1, *shape), 0.7)
    for shows in (SHOWN, LACKING):
        assert image_level_loss(logits, shows) == pytest.approx(
            float(bce(logits[0, :, 0, 0].flatten()[:1], shows[0]))
        )


def test_one_bright_voxel_counts_for_more_than_the_mean_and_less_than_alone() -> None:
    logits = torch.full((1, 1, 10, 10), -3.0)
    logits[0, 0, 4, 4] = 6.0
    loss = float(image_level_loss(logits, SHOWN))
    assert float(softplus(-torch.tensor(6.0))) < loss < float(softplus(-logits.mean()))
    smooth_maximum = 6.0 - log(100) / 5
    assert loss == pytest.approx(float(softplus(torch.tensor(-smooth_maximum))), rel=1e-4)


def test_where_nothing_is_known_it_is_zero_and_teaches_nothing() -> None:
    logits = torch.randn(2, 3, 5, 5, requires_grad=True)
    loss = image_level_loss(logits, torch.full((2, 2), nan))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_only_images_of_which_something_is_known_count() -> None:
    logits = torch.randn(3, 1, 6, 6)
    shows = torch.tensor([[1.0], [nan], [0.0]])
    ones = [image_level_loss(logits[n : n + 1], shows[n : n + 1]) for n in (0, 2)]
    assert float(image_level_loss(logits, shows)) == pytest.approx(float(sum(ones)) / 2)
    weighed = image_level_loss(logits, shows, torch.tensor([3.0, 9.0, 1.0]))
    assert float(weighed) == pytest.approx(float(3 * ones[0] + ones[1]) / 4)


def test_a_softmax_of_two_is_a_sigmoid_of_the_difference() -> None:
    logits = torch.randn(2, 2, 6, 6)
    shows = torch.tensor([[1.0], [0.0]])
    alone = logits[:, 1:] - logits[:, :1]
    torch.testing.assert_close(image_level_loss(logits, shows), image_level_loss(alone, shows))


def test_descending_it_raises_the_classes_shown_and_lowers_the_others() -> None:
    logits = torch.zeros(1, 3, 4, 4, requires_grad=True)
    image_level_loss(logits, torch.tensor([[1.0, 0.0]])).backward()
    assert logits.grad is not None
    assert (logits.grad[:, 1] < 0).all()
    assert (logits.grad[:, 2] > 0).all()


def test_large_logits_stay_finite() -> None:
    logits = torch.tensor([1e4, -1e4, 0.0, 50.0]).reshape(1, 1, 2, 2).requires_grad_()
    for shows in (SHOWN, LACKING):
        assert torch.isfinite(image_level_loss(logits, shows))
