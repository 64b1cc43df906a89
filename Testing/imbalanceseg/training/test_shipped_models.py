from __future__ import annotations

import pytest
import torch

from imbalanceseg.errors import InputError
from imbalanceseg.models.write import write_bundle
from imbalanceseg.networks import create_network
from imbalanceseg.training.shipped_models import mean_of_weights


@pytest.fixture
def bundle(make_card, tmp_path):
    """A bundle of a small WingsNet from a seed."""

    def make(name: str, seed: int, width: float = 0.25):
        torch.manual_seed(seed)
        spec = {"name": "wingsnet", "kwargs": {"width": width}}
        network = create_network("wingsnet", width=width).eval()
        return write_bundle(tmp_path / name, network, make_card(name=name, network=spec))

    return make


def test_every_weight_is_the_mean_and_the_card_is_of_the_first(bundle, tmp_path):
    models = [bundle("first", 1), bundle("second", 2), bundle("third", 3)]
    states = [{n: v.clone() for n, v in m.network.state_dict().items()} for m in models]
    mean = mean_of_weights(models, tmp_path / "mean")
    assert mean.card.model_copy(update={"weights": models[0].card.weights}) == models[0].card
    for name, value in mean.network.state_dict().items():
        expected = sum(state[name].float() for state in states) / 3
        torch.testing.assert_close(value.float(), expected, rtol=1e-3, atol=1e-5)


def test_the_mean_with_itself_is_the_network(bundle, tmp_path):
    model = bundle("first", 1)
    image = torch.rand((1, 1, 16, 16, 16), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        before = model.network(image)
        after = mean_of_weights([model, bundle("again", 1)], tmp_path / "mean").network(image)
    torch.testing.assert_close(after, before)


def test_networks_that_differ_have_no_mean(bundle, tmp_path):
    with pytest.raises(InputError) as error:
        mean_of_weights([bundle("first", 1), bundle("wide", 1, width=0.5)], tmp_path / "mean")
    assert error.value.code == "networks-differ"
    assert not (tmp_path / "mean").exists()
