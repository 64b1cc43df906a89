"""The training loops that ``training_step.py`` measures: ours, MONAI's and nnU-Net's.

    python Testing/Benchmarks/training_loops.py WORK LOOP cpu

WORK is a folder that :func:`describe` filled, LOOP a :class:`Loop` as JSON. Standard input says how
many steps to do, standard output how long they took.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

# nnU-Net's interpreter runs this file too and need not have what ours has: whatever only one of
# them needs is imported inside functions.
if TYPE_CHECKING:
    import torch

    from imbalanceseg.planning.plan import Plan
    from imbalanceseg.training.recipe import Recipe

Step = Callable[[], float]
"""One training step; gives the seconds that it waited for its batch."""

OURS, MONAI, NNUNET = "ours", "MONAI", "nnU-Net v2"
_NNUNET_DATASET, _NNUNET_DATA = "Dataset001_Benchmark", "nnUNetPlans_3d_fullres"


@dataclass(frozen=True)
class Loop:
    """What is measured.

    Attributes:
        name: whose loop.
        precision: ``"auto"``, ``"float32"`` or ``"bfloat16"``.
        workers: processes that make batches, where they can be chosen.
    """

    name: str
    precision: str
    workers: int | None = None


def describe(work: Path, data: Path, recipe_name: str, memory_gb: float) -> str:
    """Plan and prepare the dataset, and write down what the loops need.

    Returns:
        What is measured, for people.
    """
    from imbalanceseg.atomic import write_json, write_text
    from imbalanceseg.planning.dataset import open_dataset
    from imbalanceseg.planning.fingerprint import fingerprint
    from imbalanceseg.planning.plan import make_plan
    from imbalanceseg.planning.prepare import prepare
    from imbalanceseg.training.build import build_network, class_count, training_patch
    from imbalanceseg.training.recipe import LossChoice
    from imbalanceseg.training.recipe_files import read_recipe

    dataset = open_dataset(data)
    recipe = read_recipe(recipe_name)
    plan = make_plan(dataset, fingerprint(dataset), memory_gb, recipe.preset)
    if len(plan.patch) != 3:
        raise SystemExit("Give a dataset of 3D images.")
    recipe = recipe.model_copy(update={"loss": LossChoice(name="dice_ce")})
    (work / "prepared").mkdir()
    cases = prepare(dataset, plan, work / "prepared")
    network = build_network(plan, recipe, 0)
    patch = training_patch(plan, recipe, network)
    batch = recipe.batch or plan.batch
    write_text(work / "plan.json", plan.model_dump_json())
    write_text(work / "recipe.json", recipe.model_dump_json())
    write_text(work / "dataset.txt", str(data.resolve()))
    write_json(
        work / "cases.json",
        [{"name": c.name, "folder": str(c.folder), "shape": list(c.shape)} for c in cases],
    )
    write_json(work / "nnunet.json", nnunet_facts(plan, recipe, patch, batch))
    deep = "deep supervision" if recipe.supervision.kind == "deep" else "no deep supervision"
    weights = sum(p.numel() for p in network.parameters()) / 1e6
    return (
        f"{len(cases)} cases, {class_count(plan)} classes; {batch} patches of "
        f"{' x '.join(map(str, patch))} voxels a step; network of {weights:.1f} million weights, "
        f"{deep}; {recipe.optimizer.name}, recipe {recipe_name}"
    )


def nnunet_facts(plan: Plan, recipe: Recipe, patch: Sequence[int], batch: int) -> dict[str, Any]:
    """The same training in nnU-Net's words."""
    from imbalanceseg.training.build import network_arguments

    arguments = network_arguments(plan, recipe)[1]
    stages = len(plan.features)
    names = [plan.labels[value] for value in sorted(plan.labels) if value != 0]
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": arguments["features"],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": plan.kernels,
            "strides": plan.strides,
            "n_conv_per_stage": [2] * stages,
            "n_conv_per_stage_decoder": [2] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    configuration = {
        "data_identifier": _NNUNET_DATA,
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch,
        "patch_size": list(patch),
        "spacing": plan.spacing_mm,
        "normalization_schemes": ["ZScoreNormalization"] * len(plan.channel_names),
        "use_mask_for_norm": [False] * len(plan.channel_names),
        "batch_dice": False,
        "architecture": architecture,
    }
    choice = recipe.optimizer
    optimizer: dict[str, Any] = {"lr": choice.learning_rate, "weight_decay": choice.weight_decay}
    if choice.name == "sgd":
        optimizer |= {"momentum": choice.momentum, "nesterov": choice.momentum > 0}
    optimizer["name"] = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}[choice.name]
    return {
        "patch": list(patch),
        "deep": recipe.supervision.kind == "deep",
        "optimizer": optimizer,
        "plans": {
            "continue_training": False,
            "dataset_name": _NNUNET_DATASET,
            "plans_name": "nnUNetPlans",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "configurations": {"3d_fullres": configuration},
        },
        "dataset": {
            "channel_names": {str(n): name for n, name in enumerate(plan.channel_names)},
            "labels": {"background": 0, **{name: n for n, name in enumerate(names, 1)}},
            "file_ending": ".nii.gz",
        },
    }


def described(work: Path) -> tuple[Plan, Recipe]:
    """Plan and recipe of the measurement."""
    from imbalanceseg.planning.plan import Plan
    from imbalanceseg.training.recipe import Recipe

    plan = Plan.model_validate_json((work / "plan.json").read_bytes())
    return plan, Recipe.model_validate_json((work / "recipe.json").read_bytes())


def our_loop(work: Path, precision: str, device: str) -> Step:
    """The trainer's patches, prefetcher and step."""
    import torch

    from imbalanceseg.planning.prepare import PreparedCase
    from imbalanceseg.progress import ignore_progress
    from imbalanceseg.training.distributed import Ranks
    from imbalanceseg.training.prefetch import Prefetcher
    from imbalanceseg.training.schedule import Budget
    from imbalanceseg.training.split import Split
    from imbalanceseg.training.trainer import Trainer

    plan, recipe = described(work)
    recipe = recipe.model_copy(update={"precision": precision})
    found = json.loads((work / "cases.json").read_text("utf-8"))
    cases = [PreparedCase(c["name"], Path(c["folder"]), tuple(c["shape"])) for c in found]
    folder, budget = Path(tempfile.mkdtemp(dir=work)), Budget(10**9, None)
    trainer = Trainer(
        plan,
        recipe,
        Split(cases, []),
        folder,
        budget,
        0,
        torch.device(device),
        Ranks(),
        ignore_progress,
    )
    batches = Prefetcher(trainer._batch, trainer._workers())

    def step() -> float:
        began = perf_counter()
        batch = batches.take(trainer.standing.iteration)
        waited = perf_counter() - began
        trainer._step(batch)
        trainer.standing.iteration += 1
        return waited

    return step


def monai_loop(work: Path, precision: str, workers: int, device: str) -> Step:
    """As in MONAI's tutorials of the spleen and of brain tumours."""
    import torch
    from monai.data import CacheDataset, DataLoader
    from monai.losses import DeepSupervisionLoss, DiceCELoss
    from monai.transforms import Compose

    from imbalanceseg.networks.nnunet import supervision_weights
    from imbalanceseg.planning.dataset import open_dataset
    from imbalanceseg.training.build import (
        build_network,
        build_optimizer,
        class_count,
        training_patch,
    )

    plan, recipe = described(work)
    dataset = open_dataset((work / "dataset.txt").read_text("utf-8"))
    network = build_network(plan, recipe, 0).to(device).train()
    optimizer = build_optimizer(network, recipe.optimizer)
    patch = training_patch(plan, recipe, network)
    several = class_count(plan) > 1
    loss_function = DiceCELoss(to_onehot_y=several, softmax=several, sigmoid=not several)
    deep = recipe.supervision.kind == "deep"
    files = [
        {"image": [str(image) for image in case.images], "label": str(case.label)}
        for case in dataset.cases
        if case.label is not None
    ]
    transforms = [*_cached_transforms(plan, patch), *_random_transforms(plan, recipe, patch)]
    cached = CacheDataset(files, Compose(transforms), cache_rate=1.0, progress=False)
    loader = DataLoader(
        cached,
        batch_size=recipe.batch or plan.batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=device != "cpu",
    )

    def total(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        if not deep:
            return loss_function(outputs, labels)
        weights = [weight for weight in supervision_weights(len(outputs)) if weight]
        return DeepSupervisionLoss(loss_function, weights=weights)(outputs[: len(weights)], labels)

    def forever() -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield from loader

    batches = forever()

    def step() -> float:
        began = perf_counter()
        batch = next(batches)
        waited = perf_counter() - began
        inputs, labels = batch["image"].to(device), batch["label"].to(device)
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            outputs = network(inputs)
            loss = total(outputs, labels)
        loss.backward()
        optimizer.step()
        loss.item()
        return waited

    return step


def _cached_transforms(plan: Plan, patch: Sequence[int]) -> list[Any]:
    """What comes out the same every time: MONAI computes it once."""
    from monai import transforms as monai

    both, modes = ("image", "label"), ("bilinear", "nearest")
    masked = [scheme.scheme == "masked z-score" for scheme in plan.normalization]
    if any(scheme.scheme == "ct" for scheme in plan.normalization):
        ct = plan.normalization[0]
        normalize: list[Any] = [
            monai.ThresholdIntensityd("image", ct.low, above=True, cval=ct.low),
            monai.ThresholdIntensityd("image", ct.high, above=False, cval=ct.high),
            monai.NormalizeIntensityd("image", subtrahend=ct.mean, divisor=ct.std),
        ]
    else:
        normalize = [monai.NormalizeIntensityd("image", nonzero=all(masked), channel_wise=True)]
    values = sorted({0, *plan.labels})
    return [
        monai.LoadImaged(both),
        monai.EnsureChannelFirstd(both),
        # The axes of the network are the plan's, of which Z, Y, X are the case's.
        monai.Orientationd(both, axcodes="".join("SPL"[axis] for axis in plan.axes)),
        monai.Spacingd(both, pixdim=plan.spacing_mm, mode=modes),
        *normalize,
        monai.MapLabelValued("label", values, list(range(len(values)))),
        monai.SpatialPadd(both, spatial_size=patch),
        monai.FgBgToIndicesd("label"),
    ]


def _random_transforms(plan: Plan, recipe: Recipe, patch: Sequence[int]) -> list[Any]:
    """In the order of nnU-Net, and as often as the recipe wants."""
    from math import pi

    from monai import transforms as monai

    often, both = recipe.augmentation, ("image", "label")
    sampling = recipe.sampling or plan.sampling
    foreground = sampling.foreground + sampling.instance + sampling.hard_skeleton
    turn = (30 if often.rotation_degrees is None else often.rotation_degrees) * pi / 180
    low, high = often.zoom_range
    found: list[tuple[float, Callable[[float], Any]]] = [
        (
            often.rotation,
            lambda p: monai.RandRotated(
                both, turn, turn, turn, prob=p, mode=("bilinear", "nearest")
            ),
        ),
        (
            often.zoom,
            lambda p: monai.RandZoomd(
                both, prob=p, min_zoom=low, max_zoom=high, mode=("trilinear", "nearest")
            ),
        ),
        (often.noise, lambda p: monai.RandGaussianNoised("image", prob=p, std=0.3)),
        (
            often.blur,
            lambda p: monai.RandGaussianSmoothd("image", (0.5, 1), (0.5, 1), (0.5, 1), prob=p),
        ),
        (often.brightness, lambda p: monai.RandScaleIntensityd("image", 0.25, prob=p)),
        (
            often.contrast,
            lambda p: monai.RandScaleIntensityFixedMeand(
                "image", factors=0.25, preserve_range=True, prob=p
            ),
        ),
        (often.low_resolution, lambda p: monai.RandSimulateLowResolutiond("image", prob=p)),
        (
            often.inverted_gamma,
            lambda p: monai.RandAdjustContrastd(
                "image", prob=p, gamma=(0.7, 1.5), invert_image=True, retain_stats=True
            ),
        ),
        (
            often.gamma,
            lambda p: monai.RandAdjustContrastd(
                "image", prob=p, gamma=(0.7, 1.5), retain_stats=True
            ),
        ),
    ]
    flips = [monai.RandFlipd(both, prob=often.mirror / 2, spatial_axis=n) for n in range(3)]
    return [
        monai.RandCropByPosNegLabeld(
            both,
            label_key="label",
            spatial_size=patch,
            pos=foreground,
            neg=1 - foreground,
            num_samples=1,
            fg_indices_key="label_fg_indices",
            bg_indices_key="label_bg_indices",
        ),
        *(make(share) for share, make in found if share),
        *(flips if often.mirror else ()),
    ]


def nnunet_loop(work: Path, device: str) -> Step:
    """nnU-Net's trainer on the cases that we prepared."""
    facts = json.loads((work / "nnunet.json").read_text("utf-8"))
    root = work / "nnunet"
    root.mkdir()
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(root / name)
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder = root / "preprocessed" / _NNUNET_DATASET / _NNUNET_DATA
    folder.mkdir(parents=True)
    for case in json.loads((work / "cases.json").read_text("utf-8")):
        _save_for_nnunet(case, folder, facts["patch"])

    class WithOurOptimizer(nnUNetTrainer):  # type: ignore[misc]
        def configure_optimizers(self) -> tuple[torch.optim.Optimizer, None]:
            settings = dict(facts["optimizer"])
            make = getattr(torch.optim, settings.pop("name"))
            return make(self.network.parameters(), **settings), None

    trainer = WithOurOptimizer(
        facts["plans"], "3d_fullres", "all", facts["dataset"], torch.device(device)
    )
    trainer.enable_deep_supervision = facts["deep"]
    trainer.initialize()
    batches, _ = trainer.get_dataloaders()
    trainer.network.train()

    def step() -> float:
        began = perf_counter()
        batch = next(batches)
        waited = perf_counter() - began
        trainer.train_step(batch)
        return waited

    return step


def _save_for_nnunet(case: dict[str, Any], folder: Path, patch: Sequence[int]) -> None:
    import blosc2
    import numpy as np
    from nnunetv2.training.dataloading.nnunet_dataset import (
        comp_blosc2_params,
        nnUNetDatasetBlosc2,
    )

    source = Path(case["folder"])
    image = blosc2.open(str(source / "image.b2nd"), mode="r")[:]
    label = blosc2.open(str(source / "label.b2nd"), mode="r")[:][None].astype(np.int16)
    with np.load(source / "places.npz") as file:
        rows = file["foreground"]
    places = {}
    for number in np.unique(rows[:, 0]).tolist():
        chosen = rows[rows[:, 0] == number]
        # Its first column is the channel of the label.
        chosen[:, 0] = 0
        places[number] = chosen
    blocks, chunks = comp_blosc2_params(image.shape, tuple(patch), image.itemsize)
    label_blocks, label_chunks = comp_blosc2_params(label.shape, tuple(patch), label.itemsize)
    nnUNetDatasetBlosc2.save_case(
        image,
        label,
        {"class_locations": places},
        str(folder / case["name"]),
        chunks=chunks,
        blocks=blocks,
        chunks_seg=label_chunks,
        blocks_seg=label_blocks,
    )


def serve(work: Path, loop: Loop, device: str) -> None:
    """Do as many steps as are asked for on standard input, and answer how long they took."""
    # Libraries print; their output must not mix with the answers, in workers neither.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch

    around = ExitStack()
    if loop.name == OURS:
        from imbalanceseg.inference.allocator import kept_memory

        # As in `Trainer.run`.
        around.enter_context(kept_memory())
        step = our_loop(work, loop.precision, device)
    elif loop.name == MONAI:
        step = monai_loop(work, loop.precision, loop.workers or 0, device)
    else:
        step = nnunet_loop(work, device)
    print(json.dumps({}), file=answers, flush=True)
    for line in sys.stdin:
        began = perf_counter()
        waited = sum(step() for _ in range(int(line)))
        gpu_mib = 0.0
        if device != "cpu":
            torch.cuda.synchronize()
            gpu_mib = torch.cuda.max_memory_allocated() / 2**20
        answer = {"seconds": perf_counter() - began, "waited": waited, "gpu_mib": gpu_mib}
        print(json.dumps(answer), file=answers, flush=True)
    # Worker processes of the libraries would be waited for.
    os._exit(0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Loop(**json.loads(sys.argv[2])), sys.argv[3])
