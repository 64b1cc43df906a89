"""What is taught by painted slices is cut at one half, wherever the model before drew its line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from imbalanceseg.models.bundle import Model
from imbalanceseg.models.card import NetworkSpec
from imbalanceseg.networks import create_network
from imbalanceseg.training.decision_line import deciding_at_half


def model_of(make_card, name: str, threshold: float, outputs: int = 1) -> Model:
    torch.manual_seed(0)
    network = create_network(name, out_channels=outputs).eval()
    kwargs = {"out_channels": outputs}
    model = Model(
        Path("somewhere"),
        make_card(threshold=threshold).model_copy(
            update={"network": NetworkSpec(name=name, kwargs=kwargs)}
        ),
    )
    model.networks = (network,)
    return model


def said(model: Model) -> torch.Tensor:
    image = torch.randn(
        1,
        1,
        *(2 * m for m in model.network.multiples()),
        generator=torch.Generator().manual_seed(1),
    )
    with torch.no_grad():
        output = model.network(image)
    return output if isinstance(output, torch.Tensor) else output[0]


@pytest.mark.parametrize("name", ["unet3d", "nnunet", "unet2d5"])
@pytest.mark.parametrize("threshold", [0.9, 0.2])
def test_the_same_voxels_are_foreground(make_card, name, threshold):
    model = model_of(make_card, name, threshold)
    before = said(model)
    shifted = deciding_at_half(model)
    after = said(shifted)
    torch.testing.assert_close(after, before - math.log(threshold / (1 - threshold)))
    assert torch.equal(torch.sigmoid(after) > 0.5, torch.sigmoid(before) > threshold)
    assert shifted.card.threshold == 0.5
    # the model itself, which others use, stays as it was
    assert torch.equal(said(model), before)
    assert model.card.threshold == threshold


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_what_is_painted_need_not_be_certain(make_card, threshold):
    model = model_of(make_card, "unet3d", threshold)
    certain = Model(model.path, model.card.model_copy(update={"high_threshold": 0.9}))
    certain.networks = model.networks
    card = deciding_at_half(certain).card
    assert (card.threshold, card.high_threshold) == (0.5, None)


def test_what_draws_its_line_at_half_stays_the_same(make_card):
    model = model_of(make_card, "unet3d", 0.5)
    assert deciding_at_half(model) is model


def test_classes_that_compete_have_no_threshold(make_card):
    model = model_of(make_card, "unet3d", 0.3, outputs=3)
    assert deciding_at_half(model) is model
