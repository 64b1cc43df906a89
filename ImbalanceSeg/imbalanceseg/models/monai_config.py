"""What MONAI asks of a bundle, derived from the model card: its metadata and its inference config.

MONAI's arrays are ``[X, Y, Z]`` with a RAS affine. Orientation ``SPL`` puts superior, posterior
and left first, second and third, which is the ``[Z, Y, X]`` array of a SimpleITK image oriented
LPS: the network sees the same tensor on both ways.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import imbalanceseg
from imbalanceseg.models.bundle import CARD_KEY
from imbalanceseg.models.card import WEIGHTS_FILE, ModelCard
from imbalanceseg.networks.factory import network_class

_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
_CHANNELS = {"CT": "hounsfield", "MR": "magnitude"}


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


def inference_config(card: ModelCard) -> dict[str, Any]:
    """Content of ``configs/inference.json`` for ``python -m monai.bundle run``.

    It segments every NIfTI file of ``dataset_dir`` into ``output_dir``. It needs no code of the
    bundle; the network's class comes from the installed engine.
    """
    return {
        "imports": ["$import pathlib", "$import numpy", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/labels'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "overlap": 0.5,
        "threshold": card.threshold,
        **_network(card),
        **_dataset(card),
        **_evaluator(card),
        "initialize": ["$@network.load_state_dict(@weights)"],
        "run": ["$@evaluator.run()"],
    }


def _network(card: ModelCard) -> dict[str, Any]:
    cls = network_class(card.network.name)
    return {
        "network_def": {
            "_target_": f"{cls.__module__}.{cls.__qualname__}",
            **card.network.kwargs,
        },
        "network": "$@network_def.to(@device)",
        "weights": {
            "_target_": "safetensors.torch.load_file",
            "filename": f"$@bundle_root + '/{WEIGHTS_FILE}'",
        },
    }


def _dataset(card: ModelCard) -> dict[str, Any]:
    return {
        "images": (
            "$sorted(str(p) for p in pathlib.Path(@dataset_dir).iterdir() "
            "if p.name.lower().endswith(('.nii', '.nii.gz')))"
        ),
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(card)},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path} for path in @images]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
    }


def _evaluator(card: ModelCard) -> dict[str, Any]:
    return {
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(card.tile_voxels[::-1]),
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
    return [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "SPL", "labels": None},
        {
            "_target_": "Spacingd",
            "keys": "image",
            "pixdim": list(card.spacing_mm[::-1]),
            "mode": "bilinear",
            "align_corners": True,
            "scale_extent": True,
        },
        {
            "_target_": "ScaleIntensityRanged",
            "keys": "image",
            "a_min": card.intensity.clip_low,
            "a_max": card.intensity.clip_high,
            "b_min": 0.0,
            "b_max": 1.0,
            "clip": True,
        },
        {"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.float32"},
    ]


def _postprocessing(card: ModelCard) -> list[dict[str, Any]]:
    largest = {
        "_target_": "KeepLargestConnectedComponentd",
        "keys": "pred",
        "applied_labels": [1],
        "connectivity": 1,
    }
    return [
        {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
        },
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": "@threshold"},
        *([largest] if card.keep_largest_component else []),
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "labels",
            "output_dtype": "$numpy.uint8",
            "separate_folder": False,
        },
    ]


def _data_format(card: ModelCard) -> dict[str, Any]:
    channels = int(card.network.kwargs.get("in_channels", 1))
    common = {
        "type": "image",
        "modality": card.modality,
        "spatial_shape": ["8*l", "8*m", "8*n"],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": True,
    }
    image = {
        **common,
        "format": _CHANNELS[card.modality],
        "num_channels": channels,
        "channel_def": {str(n): "image" for n in range(channels)},
    }
    prediction = {
        **common,
        "format": "segmentation",
        "num_channels": len(card.segments),
        "channel_def": {str(n): segment.name for n, segment in enumerate(card.segments)},
    }
    return {"inputs": {"image": image}, "outputs": {"pred": prediction}}


def _version(package: str) -> str | None:
    """Installed version without its build tag; None when the package is not installed."""
    try:
        return version(package).split("+")[0]
    except PackageNotFoundError:
        return None
