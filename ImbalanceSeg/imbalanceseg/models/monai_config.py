"""What MONAI asks of a bundle, derived from the model card: its metadata and its inference config.

MONAI's arrays are ``[X, Y, Z]`` with a RAS affine. Orientation ``SPL`` puts superior, posterior
and left first, second and third, which is the ``[Z, Y, X]`` array of a SimpleITK image oriented
LPS: the network sees the same tensor on both ways. Where the network's axes have another order,
so have the letters.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import imbalanceseg
from imbalanceseg.models.bundle import CARD_KEY
from imbalanceseg.models.card import WEIGHTS_FILE, ModelCard, output_channels
from imbalanceseg.networks.factory import network_class
from imbalanceseg.preprocessing.intensity import Normalization

_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
_CHANNELS = {"CT": "hounsfield", "MR": "magnitude", "other": "raw"}


def bundle_metadata(card: ModelCard) -> dict[str, Any]:
    """Content of ``configs/metadata.json``: MONAI's keys, and the card itself."""
    used = ("safetensors", "nibabel", "pytorch-ignite", "fire")
    packages = {name: found for name in used if (found := _version(name))}
    return {
        "schema": _SCHEMA,
        "version": card.version,
        "changelog": {card.version: "see docs/README.md"},
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": _version("numpy"),
        "required_packages_version": {"imbalanceseg": imbalanceseg.__version__, **packages},
        "optional_packages_version": {},
        "name": card.title,
        "task": f"Segmentation: {', '.join(segment.name for segment in card.segments)}",
        "description": card.description,
        "authors": card.authors,
        "copyright": card.copyright,
        "data_source": "; ".join(data.name for data in card.training_data),
        "data_type": "nifti",
        "intended_use": card.intended_use,
        "eval_metrics": card.metrics,
        "references": list(card.references),
        "network_data_format": _data_format(card),
        CARD_KEY: card.model_dump(mode="json"),
    }


def obstacle(card: ModelCard) -> str | None:
    """Why MONAI's runner cannot do what the card asks for, as a sentence; None where it can."""
    if len(card.weights) > 1:
        return "It averages the probabilities of several networks."
    if card.spatial_dims == 2:
        return "Its network is two-dimensional."
    if len({channel.normalization for channel in card.channels}) > 1:
        return "Its channels are normalised in different ways."
    return None


def inference_config(card: ModelCard) -> dict[str, Any]:
    """Content of ``configs/inference.json`` for ``python -m monai.bundle run``.

    It segments every NIfTI file of ``dataset_dir`` into ``output_dir``; where there are several
    channels, they are files named as nnU-Net does, ``CASE_0000.nii.gz``, ``CASE_0001.nii.gz``. It
    needs no code of the bundle; the network's class comes from the installed engine.

    Args:
        card: one for which :func:`obstacle` is None.
    """
    return {
        "imports": ["$import pathlib", "$import numpy", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/labels'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "overlap": card.tile_overlap,
        **({"threshold": card.threshold} if output_channels(card) == 1 else {}),
        **_network(card),
        **_dataset(card),
        **_evaluator(card),
        "initialize": ["$@network_def.load_state_dict(@weights)"],
        "run": ["$@evaluator.run()"],
    }


def _network(card: ModelCard) -> dict[str, Any]:
    cls = network_class(card.network.name)
    activation = "torch.nn.Sigmoid()" if output_channels(card) == 1 else "torch.nn.Softmax(dim=1)"
    return {
        "network_def": {
            "_target_": f"{cls.__module__}.{cls.__qualname__}",
            **card.network.kwargs,
        },
        # As in the engine, tiles that overlap average probabilities, not logits.
        "network": f"$torch.nn.Sequential(@network_def, {activation}).to(@device)",
        "weights": {
            "_target_": "safetensors.torch.load_file",
            "filename": f"$@bundle_root + '/{WEIGHTS_FILE}'",
        },
    }


def _dataset(card: ModelCard) -> dict[str, Any]:
    count = len(card.channels)
    data = "$[{'image': path} for path in @images]"
    if count > 1:
        data = (
            f"$[{{'image': list(@images[n : n + {count}])}} "
            f"for n in range(0, len(@images), {count})]"
        )
    return {
        "images": (
            "$sorted(str(p) for p in pathlib.Path(@dataset_dir).iterdir() "
            "if p.name.lower().endswith(('.nii', '.nii.gz')))"
        ),
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(card)},
        "dataset": {
            "_target_": "Dataset",
            "data": data,
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
    }


def _evaluator(card: ModelCard) -> dict[str, Any]:
    return {
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(card.network_tile),
            "sw_batch_size": 1,
            "overlap": "@overlap",
            "mode": "gaussian",
            "padding_mode": "replicate",
        },
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(card)},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
    }


def _preprocessing(card: ModelCard) -> list[dict[str, Any]]:
    letters = "".join("SPL"[axis] for axis in card.axes)
    crop = {
        "_target_": "CropForegroundd",
        "keys": "image",
        "source_key": "image",
        "select_fn": "$lambda x: x != 0",
        "allow_smaller": True,
    }
    scheme = card.channels[0].normalization
    scaling, spacing = [_scaling(scheme)], _spacing(card)
    return [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": letters, "labels": None},
        *([crop] if card.crop == "nonzero" else []),
        *(spacing + scaling if scheme.scheme == "range" else scaling + spacing),
        {"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.float32"},
    ]


def _scaling(scheme: Normalization) -> dict[str, Any]:
    if scheme.of_image:
        return {
            "_target_": "NormalizeIntensityd",
            "keys": "image",
            "nonzero": scheme.scheme == "masked z-score",
            "channel_wise": True,
        }
    assert scheme.low is not None
    assert scheme.high is not None
    low, high = 0.0, 1.0
    if scheme.scheme == "ct":
        assert scheme.mean is not None
        assert scheme.std is not None
        low, high = ((edge - scheme.mean) / scheme.std for edge in (scheme.low, scheme.high))
    return {
        "_target_": "ScaleIntensityRanged",
        "keys": "image",
        "a_min": scheme.low,
        "a_max": scheme.high,
        "b_min": low,
        "b_max": high,
        "clip": True,
    }


def _spacing(card: ModelCard) -> list[dict[str, Any]]:
    if card.network_spacing is None:
        return []
    step = {
        "_target_": "Spacingd",
        "keys": "image",
        "pixdim": list(card.network_spacing),
        "mode": "bilinear",
        "align_corners": True,
        "scale_extent": True,
    }
    if not card.anisotropic:
        return [step]
    # A spacing of -1 is that of the image: within the slices first, then across them.
    within = step | {"pixdim": [-1.0, *card.network_spacing[1:]]}
    return [within, step | {"mode": "nearest"}]


def _postprocessing(card: ModelCard) -> list[dict[str, Any]]:
    binary = output_channels(card) == 1
    largest = {
        "_target_": "KeepLargestConnectedComponentd",
        "keys": "pred",
        "applied_labels": list(card.largest_component_of),
        "connectivity": 1 if card.connectivity == 6 else 3,
    }
    choice = {"threshold": "@threshold"} if binary else {"argmax": True}
    return [
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
        },
        {"_target_": "AsDiscreted", "keys": "pred", **choice},
        *([largest] if card.largest_component_of else []),
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "labels",
            "output_dtype": "$numpy.uint8",
            "separate_folder": False,
            # Without it MONAI 1.6 takes sagittal volumes for pictures, and fails.
            "resample": True,
        },
    ]


def _data_format(card: ModelCard) -> dict[str, Any]:
    dims = card.spatial_dims
    scaled = all(channel.normalization.scheme == "range" for channel in card.channels)
    common = {
        "type": "image",
        "modality": card.modality,
        "spatial_shape": [f"8*{letter}" for letter in "lmn"[:dims]],
        "dtype": "float32",
        "is_patch_data": True,
    }
    image = {
        **common,
        "value_range": [0, 1] if scaled else [-100, 100],
        "format": _CHANNELS[card.modality],
        "num_channels": len(card.channels),
        "channel_def": {str(n): channel.name for n, channel in enumerate(card.channels)},
    }
    names = [segment.name for segment in card.segments]
    if output_channels(card) > 1:
        names.insert(0, "background")
    prediction = {
        **common,
        "value_range": [0, 1],
        "format": "segmentation",
        "num_channels": len(names),
        "channel_def": {str(n): name for n, name in enumerate(names)},
    }
    return {"inputs": {"image": image}, "outputs": {"pred": prediction}}


def _version(package: str) -> str | None:
    """Installed version without its build tag; None when the package is not installed."""
    try:
        return version(package).split("+")[0]
    except PackageNotFoundError:
        return None
