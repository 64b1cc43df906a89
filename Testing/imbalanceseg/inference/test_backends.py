from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from imbalanceseg.errors import Cancelled, InputError
from imbalanceseg.inference import predict
from imbalanceseg.inference.backends import choice
from imbalanceseg.inference.backends.backend import out_of_memory
from imbalanceseg.inference.backends.choice import backends_for
from imbalanceseg.inference.backends.openvino import OpenVINOBackend, has_openvino
from imbalanceseg.inference.backends.pytorch import PyTorchBackend
from imbalanceseg.inference.segment import segment
from imbalanceseg.networks import create_network
from imbalanceseg.networks.unet3d import UNet3d

from .test_segment import picture, upright, voxels

needs_openvino = pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed.")
CPU = torch.device("cpu")


class Failing:
    """A backend whose runners raise."""

    name, device = "Failing float32", CPU

    def __init__(self, error: BaseException, good_after: int = 10**9) -> None:
        self.error, self.left = error, good_after

    def at_work(self):
        return nullcontext()

    def load(self, network, spatial_dims, key=None):
        good = PyTorchBackend(CPU).load(network, spatial_dims)

        def run(patch):
            self.left -= 1
            if self.left < 0:
                return good(patch)
            raise self.error

        return run


@pytest.fixture
def with_backends(monkeypatch):
    def use(*backends) -> None:
        monkeypatch.setattr(predict, "backends_for", lambda device: (list(backends), []))

    return use


def unet() -> UNet3d:
    torch.manual_seed(1)
    return UNet3d(features=(4, 6), norm="instance").eval()


@needs_openvino
def test_on_a_processor_openvino_comes_first_and_pytorch_last():
    backends, notes = backends_for("cpu")
    assert [type(one) for one in backends] == [OpenVINOBackend, PyTorchBackend]
    assert notes == []
    assert all(one.device == CPU for one in backends)


def test_a_gpu_comes_first_and_the_processor_stands_behind_it(monkeypatch):
    monkeypatch.setattr(choice, "pick_device", lambda name: torch.device("cuda:0"))
    backends, _ = backends_for("auto")
    assert backends[0].device.type == "cuda"
    assert {one.device.type for one in backends[1:]} == {"cpu"}


def test_without_openvino_pytorch_computes(monkeypatch, dark_model):
    monkeypatch.setattr(choice, "has_openvino", lambda: False)
    found = segment(picture(upright()), dark_model, maps=())
    assert found.backend.startswith("PyTorch")


def test_an_openvino_that_does_not_load_is_told(monkeypatch):
    def broken():
        raise ImportError("libtbb.so: cannot open shared object file")

    monkeypatch.setattr(choice, "OpenVINOBackend", broken)
    monkeypatch.setattr(choice, "has_openvino", lambda: True)
    backends, (note,) = backends_for("cpu")
    assert [type(one) for one in backends] == [PyTorchBackend]
    assert "libtbb" in note


@needs_openvino
@pytest.mark.parametrize("sizes", [((16, 24, 16), (32, 16, 24))])
def test_openvino_computes_what_pytorch_does(sizes, tmp_path):
    network = unet()
    backend = OpenVINOBackend(tmp_path)
    precise = backend.name.endswith("float32")
    run = backend.load(network, 3, "a")
    for size in sizes:
        patch = torch.randn(1, 1, *size)
        with torch.no_grad():
            expected = network(patch)
        torch.testing.assert_close(run(patch), expected, atol=1e-4 if precise else 0.1, rtol=0)


@needs_openvino
def test_converted_networks_are_kept_and_read_back(tmp_path, monkeypatch):
    patch = torch.randn(1, 1, 16, 16, 16)
    first = OpenVINOBackend(tmp_path / "cache").load(unet(), 3, "a")(patch)
    assert {file.suffix for file in (tmp_path / "cache").iterdir()} == {".xml", ".bin"}
    with monkeypatch.context() as patched:
        patched.setattr(OpenVINOBackend, "_convert", lambda *_: pytest.fail("converted again"))
        again = OpenVINOBackend(tmp_path / "cache").load(unet(), 3, "a")(patch)
    assert torch.equal(first, again)
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    mended = OpenVINOBackend(tmp_path / "cache").load(unet(), 3, "a")(patch)
    assert torch.equal(first, mended)


@needs_openvino
def test_a_cache_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "cache").write_text("a file")
    run = OpenVINOBackend(tmp_path / "cache").load(unet(), 3, "a")
    assert run(torch.randn(1, 1, 16, 16, 16)).shape == (1, 2, 16, 16, 16)


@needs_openvino
def test_old_networks_leave_the_cache(tmp_path):
    backend = OpenVINOBackend(tmp_path)
    network = create_network("unet3d", features=(1, 1), norm="none").eval()
    for number in range(10):
        backend.load(network, 3, str(number))
    assert len(list(tmp_path.glob("*.xml"))) == len(list(tmp_path.glob("*.bin"))) == 8


@needs_openvino
def test_openvino_is_never_allowed_to_report_over_the_network():
    code = (
        "import sys; from imbalanceseg.inference.backends.openvino import OpenVINOBackend; "
        "OpenVINOBackend(); assert sys.modules['openvino_telemetry'] is None"
    )
    source = str(Path(predict.__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": source})


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("sizes differ"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_running_out_of_memory_is_recognised(error, full):
    assert out_of_memory(error) is full


def test_a_backend_that_fails_hands_over_with_a_sentence(with_backends, dark_model):
    image = picture(upright())
    expected = segment(image, dark_model, maps=())
    with_backends(Failing(RuntimeError("no kernel image")), PyTorchBackend(CPU))
    found = segment(image, dark_model, maps=())
    np.testing.assert_array_equal(voxels(found.labels), voxels(expected.labels))
    assert found.backend.startswith("PyTorch")
    (note,) = found.notes
    assert "no kernel image" in note
    assert "next device" in note


def test_out_of_memory_tries_smaller_tiles_first(with_backends, dark_model):
    with_backends(Failing(MemoryError(), good_after=1), PyTorchBackend(CPU))
    found = segment(picture(upright()), dark_model, maps=())
    assert found.backend == "Failing float32"
    assert any("smaller tiles" in note for note in found.notes)


def test_out_of_memory_everywhere_is_one_clear_error(with_backends, dark_model):
    with_backends(Failing(MemoryError()))
    with pytest.raises(InputError) as refused:
        segment(picture(upright()), dark_model, maps=())
    assert refused.value.code == "out-of-memory"
    assert refused.value.hint


def test_the_last_backend_s_own_error_is_not_hidden(with_backends, dark_model):
    with_backends(Failing(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        segment(picture(upright()), dark_model, maps=())


def test_cancelling_does_not_try_the_next_backend(with_backends, dark_model):
    with_backends(Failing(Cancelled()), PyTorchBackend(CPU))
    with pytest.raises(Cancelled):
        segment(picture(upright()), dark_model, maps=())
