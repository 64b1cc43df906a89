"""OpenVINO on the processor: fused kernels, and bfloat16 where the processor has it."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from imbalanceseg.inference.backends.backend import Runner

_KEPT = 8
"""Converted networks that stay on disk, the latest used."""


def has_openvino() -> bool:
    """Whether OpenVINO is installed; nothing is imported."""
    return find_spec("openvino") is not None


class OpenVINOBackend:
    """Networks converted once and kept on disk, compiled for each size of tile.

    Args:
        cache: folder of converted networks; the user's cache folder when None.
    """

    device = torch.device("cpu")

    def __init__(self, cache: Path | None = None) -> None:
        self._openvino = _silent_openvino()
        self._core = self._openvino.Core()
        self._cache = cache or cache_folder()

    @property
    def name(self) -> str:
        """With the precision that the processor is fastest in."""
        precision = self._core.get_property("CPU", "INFERENCE_PRECISION_HINT")
        return f"OpenVINO {'bfloat16' if 'bfloat16' in str(precision) else 'float32'}"

    def at_work(self) -> AbstractContextManager[None]:
        """OpenVINO keeps its own memory."""
        return nullcontext()

    def load(self, network: nn.Module, spatial_dims: int, key: str | None = None) -> Runner:
        """See :class:`~.backend.Backend`."""
        model = self._converted(network.to("cpu"), spatial_dims, key)
        requests: dict[torch.Size, Any] = {}

        def run(patch: Tensor) -> Tensor:
            if patch.shape not in requests:
                # What was compiled for another size holds on to its memory.
                requests.clear()
                model.reshape(list(patch.shape))
                requests[patch.shape] = self._compiled(model).create_infer_request()
            request = requests[patch.shape]
            request.infer([np.ascontiguousarray(patch.numpy(), dtype=np.float32)])
            return torch.from_numpy(request.get_output_tensor(0).data.copy()).float()

        return run

    def _compiled(self, model: Any) -> Any:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        return self._core.compile_model(model, "CPU", settings)

    def _converted(self, network: nn.Module, spatial_dims: int, key: str | None) -> Any:
        if key is None:
            return self._convert(network, spatial_dims)
        text = f"{key} {version('openvino')} {version('torch')}"
        file = self._cache / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.xml"
        try:
            model = self._core.read_model(file)
            os.utime(file)
        except (RuntimeError, OSError):
            model = self._convert(network, spatial_dims)
            self._keep(model, file)
        return model

    def _convert(self, network: nn.Module, spatial_dims: int) -> Any:
        modules = network.modules()
        channels = next(cast(int, m.in_channels) for m in modules if hasattr(m, "in_channels"))
        known = [getattr(module, "multiples", None) for module in network.modules()]
        multiples = next((told() for told in known if callable(told)), (16,) * spatial_dims)
        sides = [2 * side for side in multiples]
        example = torch.zeros(1, channels, *sides)
        with warnings.catch_warnings(), torch.no_grad():
            # That sizes are traced as constants is harmless: they are only checked.
            warnings.simplefilter("ignore")
            model = self._openvino.convert_model(network, example_input=example)
        dynamic = self._openvino.PartialShape([1, channels] + [-1] * spatial_dims)
        model.reshape({0: dynamic})
        return model

    def _keep(self, model: Any, file: Path) -> None:
        """Into the cache, whole or not at all; a cache that cannot be written is no error."""
        partial = file.with_name(f".{secrets.token_hex(4)}")
        try:
            partial.mkdir(parents=True)
            self._openvino.save_model(model, partial / file.name, compress_to_fp16=False)
            # The weights first: a description without them would be read and fail.
            for ending in (".bin", ".xml"):
                (partial / file.name).with_suffix(ending).replace(file.with_suffix(ending))
            kept = sorted(self._cache.glob("*.xml"), key=lambda f: f.stat().st_mtime)
            for old in kept[:-_KEPT]:
                old.unlink(missing_ok=True)
                old.with_suffix(".bin").unlink(missing_ok=True)
        except (RuntimeError, OSError):
            return
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def cache_folder() -> Path:
    """Where converted networks are kept for this user."""
    from platformdirs import user_cache_path

    return Path(user_cache_path("imbalanceseg", appauthor=False)) / "openvino"


def _silent_openvino() -> Any:
    # OpenVINO reports its use over the network unless this package cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
