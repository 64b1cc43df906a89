"""Models on disk: finding a bundle, reading its card, loading weights that are what they claim.

A bundle is only ever read as data: JSON for the card, safetensors for the weights, and a network
class chosen by name from ``imbalanceseg.networks``. Nothing in it is executed or unpickled; its
``configs/inference.json`` is for MONAI's own runner and is not read here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbalanceseg.errors import ModelError
from imbalanceseg.labels import SegmentInfo
from imbalanceseg.models.card import ModelCard, Weights, parse_card

if TYPE_CHECKING:
    from torch import Tensor, nn

METADATA_FILE = "configs/metadata.json"
CARD_KEY = "imbalanceseg"

_SHIPPED = Path(__file__).parent / "bundles"
_LARGEST_METADATA = 4 * 2**20
_TYPES = {"F16", "BF16", "F32"}
_FETCH_AGAIN = "Install ImbalanceSeg again, or get the model again from where it came."


class Model:
    """A model bundle whose card has been read and whose weights are read when asked for.

    Attributes:
        path: folder of the bundle.
        card: the validated model card.
    """

    def __init__(self, path: Path, card: ModelCard) -> None:
        self.path = path
        self.card = card

    def __repr__(self) -> str:
        return f"Model({self.name!r}, version={self.version!r}, path={str(self.path)!r})"

    @property
    def name(self) -> str:
        """Short name, for example ``"airway"``."""
        return self.card.name

    @property
    def version(self) -> str:
        """Version of the weights."""
        return self.card.version

    @property
    def segments(self) -> tuple[SegmentInfo, ...]:
        """What the label values mean."""
        return self.card.segments

    @cached_property
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks on the CPU, in float32 and evaluation mode, with verified weights.

        Raises:
            ModelError: as :meth:`verify`; ``model-invalid`` when the weights do not fit the network
                or are not safetensors; ``network-unknown``.
        """
        import torch

        from imbalanceseg.networks import create_network

        spec = self.card.network
        # A card may ask for a network that no memory holds; without values it takes none.
        with torch.device("meta"):
            outline = create_network(spec.name, **spec.kwargs)
        shapes = {name: tuple(tensor.shape) for name, tensor in outline.state_dict().items()}
        self.verify()
        paths = [self.path / weights.file for weights in self.card.weights]
        for path in paths:
            _require_fit(path, shapes)
        networks = [create_network(spec.name, **spec.kwargs) for _ in paths]
        for network, path in zip(networks, paths, strict=True):
            network.load_state_dict(_finite_state(path))
        return tuple(network.eval() for network in networks)

    @property
    def network(self) -> nn.Module:
        """The only network, or the first of several; as :attr:`networks`."""
        return self.networks[0]

    def verify(self) -> None:
        """Compare every weights file with its checksum in the card.

        Raises:
            ModelError: ``model-damaged`` when weights are missing or differ from the checksum,
                ``model-invalid`` when the card has none.
        """
        if not self.card.weights:
            raise ModelError(
                "model-invalid",
                f"The card of the model {self.name!r} states no checksum of the weights.",
                _FETCH_AGAIN,
            )
        for weights in self.card.weights:
            self._verify(weights)

    def _verify(self, weights: Weights) -> None:
        actual = sha256_of(self.path / weights.file)
        if actual != weights.sha256:
            raise ModelError(
                "model-damaged",
                f"The weights {weights.file} of the model {self.name!r} are damaged: SHA-256 "
                f"starts with {actual[:12]}, {weights.sha256[:12]} is expected.",
                _FETCH_AGAIN,
            )


def list_models() -> list[str]:
    """Names of the models that came with the software, sorted."""
    if not _SHIPPED.is_dir():
        return []
    return sorted(p.name for p in _SHIPPED.iterdir() if (p / METADATA_FILE).is_file())


def load_model(name_or_path: str | os.PathLike[str]) -> Model:
    """A model by the name of a shipped bundle or by the folder of any bundle.

    Only the card is read; weights follow with :attr:`Model.networks`.

    Args:
        name_or_path: one of :func:`list_models`, or the folder of a bundle.

    Raises:
        ModelError: ``model-unknown``, ``model-invalid`` or ``model-newer``.
    """
    known = list_models()
    if str(name_or_path) in known:
        folder = _SHIPPED / str(name_or_path)
    else:
        folder = Path(name_or_path)
        # Path("") is the working folder
        if not str(name_or_path) or not folder.is_dir():
            raise ModelError(
                "model-unknown",
                f"There is no model named {str(name_or_path)!r}, and no folder of that name.",
                f"Known models: {', '.join(known) or 'none'}; or give the folder of a bundle.",
            )
    return Model(folder, _read_card(folder / METADATA_FILE))


def sha256_of(path: Path) -> str:
    """SHA-256 of a weights file, in lower-case hexadecimal digits.

    Raises:
        ModelError: ``model-damaged`` when it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            "model-damaged",
            f"The weights {path} cannot be read ({(error.strerror or 'unknown reason').lower()}).",
            _FETCH_AGAIN,
        ) from error


def _read_card(path: Path) -> ModelCard:
    try:
        if path.stat().st_size > _LARGEST_METADATA:
            raise ValueError("the file is too large for a model card")
        metadata: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            "model-invalid",
            f"{path.parent.parent} is not a model bundle: it has no {METADATA_FILE}.",
            "Give the folder that holds configs, models and docs.",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            "model-invalid", f"The model card in {path} cannot be read: {error}.", _FETCH_AGAIN
        ) from error
    card = metadata.get(CARD_KEY) if isinstance(metadata, dict) else None
    if not isinstance(card, dict):
        raise ModelError(
            "model-invalid",
            f"{path} is not the metadata of an ImbalanceSeg model: it has no entry {CARD_KEY!r}.",
            "Other MONAI Bundles cannot be used here.",
        )
    return parse_card(card, str(path))


def _require_fit(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse weights of other names, shapes or types, before any of them is read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            slices = {name: file.get_slice(name) for name in names}
            found = {name: tuple(part.get_shape()) for name, part in slices.items()}
            types = {name: str(part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise _unfit(path, f"it is not a safetensors file ({error})") from error
    if names != shapes.keys():
        name = sorted(names ^ shapes.keys())[0]
        raise _unfit(path, f"the tensor {name!r} is {'surplus' if name in names else 'missing'}")
    for name, shape in found.items():
        if shape != shapes[name]:
            raise _unfit(path, f"the tensor {name!r} has shape {shape} instead of {shapes[name]}")
        if types[name] not in _TYPES:
            raise _unfit(path, f"the tensor {name!r} has type {types[name]}")


def _finite_state(path: Path) -> dict[str, Tensor]:
    """The weights as float32."""
    import torch
    from safetensors.torch import load_file

    state = load_file(path)
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise _unfit(path, f"the tensor {name!r} holds NaN or infinity")
    return {name: tensor.float() for name, tensor in state.items()}


def _unfit(path: Path, reason: str) -> ModelError:
    return ModelError(
        "model-invalid", f"The weights {path} cannot be used: {reason}.", _FETCH_AGAIN
    )
