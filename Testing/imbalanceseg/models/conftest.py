"""A random network, small enough to write and run in seconds."""

from __future__ import annotations

import pytest
import torch

from imbalanceseg.networks import WingsNet


@pytest.fixture
def wingsnet() -> WingsNet:
    torch.manual_seed(3)
    return WingsNet().eval()
