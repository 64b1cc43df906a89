"""Writing a model bundle: a MONAI Bundle folder that appears whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imbalanceseg.atomic import replace_folder, write_json, write_text
from imbalanceseg.errors import ModelError, OutputError
from imbalanceseg.models.bundle import METADATA_FILE, Model, load_model, sha256_of
from imbalanceseg.models.card import ModelCard, Weights, weights_file
from imbalanceseg.models.monai_config import bundle_metadata, inference_config, obstacle
from imbalanceseg.models.readme import render_license, render_readme

if TYPE_CHECKING:
    from torch import nn


def write_bundle(
    folder: str | os.PathLike[str], networks: nn.Module | Sequence[nn.Module], card: ModelCard
) -> Model:
    """Write networks and their card as a MONAI Bundle.

    Weights are stored as float16, tensors with larger values as float32. A bundle that lies in
    ``folder`` already is replaced. Where MONAI's runner cannot do what the card asks for, the
    bundle has no ``inference.json``, and its README says why.

    Args:
        folder: the bundle's folder; its parent must exist.
        networks: one instance of the network that ``card.network`` describes, or several whose
            probabilities are averaged, such as those of cross-validation.
        card: the model card; its ``weights`` entry is filled in here.

    Returns:
        The model, read back from ``folder``, its weights verified.

    Raises:
        ModelError: ``network-mismatch`` when a network is not the card's, ``weights-not-finite``
            when a weight is NaN or infinite.
        OutputError: ``output-exists`` when ``folder`` holds something that is no bundle,
            ``output-not-writable`` when it cannot be written.
    """
    target = Path(folder)
    _require_replaceable(target)
    several = list(networks) if isinstance(networks, Sequence) else [networks]
    for network in several:
        _require_network(network, card)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        for part in ("configs", "models", "docs"):
            (partial / part).mkdir(parents=True)
        files = [weights_file(number) for number in range(len(several))]
        for file, network in zip(files, several, strict=True):
            _write_weights(partial / file, network)
        weights = [Weights(file=file, sha256=sha256_of(partial / file)) for file in files]
        card = card.model_copy(update={"weights": tuple(weights)})
        write_json(partial / METADATA_FILE, bundle_metadata(card))
        if obstacle(card) is None:
            write_json(partial / "configs" / "inference.json", inference_config(card))
        write_text(partial / "docs" / "README.md", render_readme(card))
        write_text(partial / "LICENSE", render_license(card))
        replace_folder(partial, target)
    except OSError as error:
        raise OutputError(
            "output-not-writable",
            f"The model {target} cannot be written ({(error.strerror or str(error)).lower()}).",
            "Choose a folder in which you may write.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    model = load_model(target)
    model.verify()
    return model


def add_metrics(
    folder: str | os.PathLike[str], metrics: Mapping[str, Mapping[str, float]]
) -> Model:
    """Write a bundle anew, with figures beside those that its card has.

    Args:
        folder: of the bundle.
        metrics: by test set and name; a set that the card has already is replaced.

    Returns:
        The model, read back.

    Raises:
        ModelError, OutputError: see :func:`write_bundle` and :func:`~.bundle.load_model`.
    """
    model = load_model(folder)
    known = model.card.model_dump()
    known["metrics"] |= {name: dict(figures) for name, figures in metrics.items()}
    return write_bundle(folder, model.networks, ModelCard.model_validate(known))


def _write_weights(path: Path, network: nn.Module) -> None:
    import torch
    from safetensors.torch import save

    state = {}
    for name, tensor in network.state_dict().items():
        whole = tensor.detach().to("cpu").contiguous()
        if not bool(torch.isfinite(whole).all()):
            raise ModelError(
                "weights-not-finite",
                f"The tensor {name!r} holds values that are not finite.",
                "The training has diverged; use an earlier checkpoint.",
            )
        half = whole.to(torch.float16)
        # Variances of norms can be larger than float16 knows.
        state[name] = half if bool(torch.isfinite(half).all()) else whole.float()
    # Not save_file: what it raises where the disk is full is no OSError.
    path.write_bytes(save(state, {"format": "pt"}))


def _require_network(network: nn.Module, card: ModelCard) -> None:
    from imbalanceseg.networks import create_network

    wanted = create_network(card.network.name, **card.network.kwargs)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if type(network) is type(wanted) and shapes == {
        name: tuple(tensor.shape) for name, tensor in wanted.state_dict().items()
    }:
        return
    raise ModelError(
        "network-mismatch",
        f"The network {type(network).__name__} is not what the card names: {card.network.name} "
        f"with {card.network.kwargs}.",
        "Correct the card's network entry.",
    )


def _require_replaceable(target: Path) -> None:
    if not target.exists() or (target / METADATA_FILE).is_file():
        return
    if target.is_dir() and not any(target.iterdir()):
        return
    raise OutputError(
        "output-exists",
        f"{target} exists and is not a model bundle.",
        "Choose another folder or remove it.",
    )
