"""Outside torch, as OpenVINO and ONNX, every network computes what it computes in torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from .test_catalogue import built, every_network

# Importing OpenVINO reports so over the network, unless the package that reports is missing.
sys.modules["openvino_telemetry"] = None
openvino = pytest.importorskip("openvino")


def ready(key: str) -> tuple[nn.Module, Tensor, Tensor]:
    """The network in evaluation mode, its small input, and one twice as wide."""
    network, x = built(key)
    return network.eval(), x, torch.cat([x, torch.randn_like(x)], dim=-1)


def assert_computes_the_same(model: Any, network: nn.Module, x: Tensor) -> None:
    """``model`` gives the logits of ``network``, up to a ten-thousandth of their range."""
    # Processors with bfloat16 instructions would use them.
    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    found = torch.from_numpy(openvino.Core().compile_model(model, "CPU", precision)(x.numpy())[0])
    with torch.inference_mode():
        expected = network(x)
    assert found.shape == expected.shape
    spread = float(expected.max() - expected.min())
    assert float((found - expected).abs().max()) < 1e-4 * spread


@every_network
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_openvino_converts_the_network_for_every_size(key):
    network, x, wide = ready(key)
    assert_computes_the_same(openvino.convert_model(network, example_input=x), network, wide)


@every_network
@pytest.mark.slow
def test_onnx_keeps_the_network_for_the_size_of_the_example(key, tmp_path: Path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    network, _, wide = ready(key)
    path = tmp_path / "network.onnx"
    torch.onnx.export(network, (wide,), path, dynamo=True, verbose=False, external_data=False)
    assert_computes_the_same(
        openvino.Core().read_model(path), network, wide + torch.randn_like(wide)
    )
    # The weights of V-Net alone are 260 MB, and pytest keeps the folders of three runs.
    path.unlink()
