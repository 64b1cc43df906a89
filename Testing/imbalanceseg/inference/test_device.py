from __future__ import annotations

import pytest
import torch

from imbalanceseg.errors import InputError
from imbalanceseg.inference.device import fast_layout, fast_precision, pick_device


def test_auto_takes_what_there_is():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert pick_device().type == pick_device("auto").type == expected


def test_the_processor_is_always_there():
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:x", "CPU?", "meta", "mps", "cuda:-1", "0"])
def test_what_is_no_device_is_named(name):
    with pytest.raises(InputError) as refused:
        pick_device(name)
    assert refused.value.code == "device-unknown"
    assert repr(name) in refused.value.message
    assert refused.value.hint


def test_a_device_that_is_not_there_is_missing():
    with pytest.raises(InputError) as refused:
        pick_device("cuda:99")
    assert refused.value.code == "device-missing"
    assert "cuda:99" in refused.value.message


@pytest.mark.skipif(torch.cuda.is_available(), reason="this computer has a CUDA device")
def test_without_cuda_asking_for_it_is_an_error():
    with pytest.raises(InputError) as refused:
        pick_device("cuda")
    assert refused.value.code == "device-missing"


@pytest.mark.parametrize("has_bf16", [True, False])
def test_autocast_follows_the_processor(monkeypatch, has_bf16):
    from imbalanceseg.inference import device

    monkeypatch.setattr(device, "cpu_has_bf16", lambda: has_bf16)
    a = torch.ones(4, 4)
    with fast_precision(torch.device("cpu")):
        product = a @ a
    assert product.dtype == (torch.bfloat16 if has_bf16 else torch.float32)
    assert (a @ a).dtype == torch.float32


@pytest.mark.parametrize(
    ("device", "axes", "layout"),
    [
        ("cpu", 3, torch.contiguous_format),
        ("cpu", 2, torch.channels_last),
        ("cuda", 3, torch.channels_last_3d),
        ("cuda:1", 2, torch.channels_last),
    ],
)
def test_channels_come_last_except_in_3d_on_a_processor(device, axes, layout):
    assert fast_layout(torch.device(device), axes) == layout
