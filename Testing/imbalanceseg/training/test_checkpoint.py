"""Weights and checkpoints on disks that do not hold them."""

import pytest
import torch
from safetensors.torch import load_file

from imbalanceseg.errors import OutputError
from imbalanceseg.training.checkpoint import write_tensors

resource = pytest.importorskip("resource")


def test_a_file_that_finds_no_room_is_told_and_the_one_before_it_stays(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    write_tensors({"step": torch.arange(3)}, path, {"made": "before"})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OutputError) as caught:
            write_tensors({"step": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(path) in str(caught.value)
    assert torch.equal(load_file(path)["step"], torch.arange(3))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
