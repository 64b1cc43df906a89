"""Segmentation by ImbalanceSeg, and the same weights on the same scan through its peers.

    python Testing/Benchmarks/inference.py --case SCAN MODEL [REFERENCE] [--case ...]
        [--nnunet-python NNUNET/bin/python] [--json FILE]

The peer is what is commonly shipped: MONAI's SlidingWindowInferer over the volume that the bundle's
own MONAI configuration prepares, tiles of the card's size, overlap 0.5, Gaussian weights, eager
float32. Beside it, where it is installed, nnU-Net's predictor with the same tiles and no mirroring.
Each runs in a process of its own, one after another, so that time and peak memory are its own.
Everything but the tiles is the same code for all: reading, resampling, post-processing.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

_LONG = 60.0
"""What takes longer is run once: being warm saves a second or two."""
PEER, OURS, NNUNET = "MONAI, overlap 0.5", "ImbalanceSeg", "nnU-Net's predictor"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", nargs="+", action="append", metavar="PATH", default=[])
    parser.add_argument("--nnunet-python", type=Path)
    parser.add_argument("--only", choices=("ours", "peers"))
    parser.add_argument("--peer-tile", type=int, nargs="+", help="instead of the card's")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        (scan, model, *_), folder = arguments.case[0], arguments.folder
        if arguments.child == "peer":
            run_peer(scan, model, folder, arguments.peer_tile)
        else:
            {"ours": run_ours, "nnunet": run_nnunet}[arguments.child](scan, model, folder)
        return
    rows = [row for case in arguments.case for row in compare(case, arguments)]
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def compare(case: list[str], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a method for a scan, a model and, where there is one, a reference."""
    import SimpleITK as sitk

    from imbalanceseg.metrics.evaluate import evaluate

    scan, model, *reference = case
    methods = {"peer": (PEER, sys.executable), "ours": (OURS, sys.executable)}
    if arguments.nnunet_python:
        methods["nnunet"] = (NNUNET, str(arguments.nnunet_python))
    if arguments.only:
        wanted = {"ours"} if arguments.only == "ours" else set(methods) - {"ours"}
        methods = {key: value for key, value in methods.items() if key in wanted}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare_exchange(scan, model, folder)
        for key, (name, python) in methods.items():
            command = [python, __file__, "--child", key, "--folder", str(folder)]
            if arguments.peer_tile:
                command += ["--peer-tile", *map(str, arguments.peer_tile)]
            subprocess.run([*command, "--case", scan, model], check=True, env=environment())
            row = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
            rows.append({"scan": Path(scan).name, "model": model, "method": name, **row})
        finish_nnunet(scan, model, folder, rows)
        labels = {
            row["method"]: sitk.ReadImage(str(folder / f"{key}_labels.nrrd"))
            for row, key in zip(rows, methods, strict=True)
        }
    for row in rows:
        if PEER in labels:
            found = evaluate(labels[row["method"]], labels[PEER], metrics=("dice",))
            row["dice_with_peer"] = found["dice"]
            row["times_faster"] = round(rows[0]["seconds"] / row["seconds"], 2)
            row["memory_share"] = round(row["peak_mib"] / rows[0]["peak_mib"], 2)
        if reference:
            row["reference"] = against(labels[row["method"]], reference[0], model)
    return rows


def against(labels: Any, reference_path: str, model: str) -> dict[str, float]:
    """Figures against a reference: of the tree below the larynx for airways, else Dice."""
    from imbalanceseg.geometry import Grid, resample
    from imbalanceseg.io import read_image
    from imbalanceseg.metrics.airway import airway_score
    from imbalanceseg.metrics.evaluate import evaluate
    from imbalanceseg.metrics.larynx import below_larynx

    reference = resample(read_image(reference_path), Grid.of(labels), "nearest")
    if model != "airway":
        return dict(evaluate(labels, reference > 0, metrics=("dice",)))
    score = airway_score(labels, reference, below_larynx(reference))
    names = ("length_detected", "branch_detected", "precision", "dice")
    return {name: round(getattr(score, name), 4) for name in names}


def run_ours(scan: str, model_name: str, folder: Path) -> None:
    """The whole job from the scan's files to the labels' file, and again, warm, if it is short."""
    import SimpleITK as sitk

    from imbalanceseg import load_model
    from imbalanceseg.inference import predict
    from imbalanceseg.session import Session

    matmul = matmul_flops()
    seen: list[int] = []
    plain = predict.maps_of_tile

    def counted(networks: Any, request: Any, patch: Any) -> Any:
        seen.append(prod(patch.shape[2:]))
        return plain(networks, request, patch)

    predict.maps_of_tile = counted  # type: ignore[assignment]
    times: list[float] = []
    for _ in range(2):
        seen.clear()
        began = time.perf_counter()
        model = load_model(model_name)
        session = Session.open(scan, model=model)
        result = session.segment(model, maps=())
        at = time.perf_counter()
        sitk.WriteImage(result.labels, str(folder / "ours_labels.nrrd"), True)
        times.append(time.perf_counter() - began)
        stages = {**session.seconds, **result.seconds, "write": time.perf_counter() - at}
        if len(times) == 1:
            first = stages
        if times[0] > _LONG:
            break
    at = time.perf_counter()
    session.write(folder / "out")
    everything = time.perf_counter() - at
    floor = sum(seen) * flops_per_voxel(model) / matmul
    record(
        folder / "ours.json",
        times[0],
        first,
        **({"warm_seconds": round(times[1], 2)} if len(times) > 1 else {}),
        overview_and_report=round(everything, 2),
        tiles=len(seen),
        voxels=sum(seen),
        floor_seconds=round(floor, 2),
        matmul_gflops=round(matmul / 1e9, 1),
        backend=result.backend,
        notes=list(result.notes),
    )


def run_peer(scan: str, model_name: str, folder: Path, tile: list[int] | None) -> None:
    """The same job with MONAI's sliding window."""
    import torch
    from monai.inferers.inferer import SlidingWindowInferer

    began = time.perf_counter()
    model, images, seen, stages = prepared(scan, model_name)
    network = model.network
    at = time.perf_counter()
    calls = 0

    def probabilities(patch: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        logits = network(patch)
        return torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, 1)

    tile = tile or list(model.card.network_tile)
    with torch.no_grad():
        inferer = SlidingWindowInferer(tile, 1, 0.5, mode="gaussian", padding_mode="replicate")
        maps = inferer(seen.voxels, probabilities)[0]
    stages["tiles"] = time.perf_counter() - at
    place(maps, images, seen, model, stages, folder / "peer_labels.nrrd")
    seconds = time.perf_counter() - began
    record(folder / "peer.json", seconds, stages, tiles=calls, voxels=calls * prod(tile))


def run_nnunet(scan: str, model_name: str, folder: Path) -> None:
    """nnU-Net's sliding window over the volume that lies in the folder."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    with (folder / "exchange.pickle").open("rb") as file:
        network, tile, classes = pickle.load(file)
    volume = torch.from_numpy(np.load(folder / "volume.npy"))
    predictor = nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.network = network
    predictor.configuration_manager = SimpleNamespace(patch_size=tile)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=classes)
    at = time.perf_counter()
    logits = predictor.predict_sliding_window_return_logits(volume)
    seconds = time.perf_counter() - at
    np.save(folder / "nnunet.npy", logits.float().numpy())
    record(folder / "nnunet.json", seconds, {"tiles": seconds})


def prepare_exchange(scan: str, model_name: str, folder: Path) -> None:
    """What nnU-Net's process needs: the network and the prepared volume."""
    from imbalanceseg.models.card import output_channels

    model, _, seen, _ = prepared(scan, model_name)
    np.save(folder / "volume.npy", seen.voxels[0].numpy())
    with (folder / "exchange.pickle").open("wb") as file:
        tile = list(model.card.network_tile)
        pickle.dump((model.network, tile, output_channels(model.card)), file)


def finish_nnunet(scan: str, model_name: str, folder: Path, rows: list[dict[str, Any]]) -> None:
    """Labels of nnU-Net's logits; the peer's time for everything but tiles is added to its."""
    import torch

    if not (folder / "nnunet.npy").exists():
        return
    model, images, seen, _ = prepared(scan, model_name)
    logits = torch.from_numpy(np.load(folder / "nnunet.npy"))[None]
    maps = torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, 1)
    place(maps[0], images, seen, model, {}, folder / "nnunet_labels.nrrd")
    peer = next((row for row in rows if row["method"] == PEER), None)
    for row in rows:
        if row["method"] == NNUNET and peer is not None:
            row["seconds"] += peer["seconds"] - peer["stages"]["tiles"]


def prepared(scan: str, model_name: str) -> tuple[Any, Any, Any, dict[str, float]]:
    """Model, images and volume as the bundle's MONAI configuration prepares them."""
    from imbalanceseg import load_model
    from imbalanceseg.inference.stopwatch import Stopwatch
    from imbalanceseg.inference.working_volume import working_volume
    from imbalanceseg.session import Session

    model = load_model(model_name)
    session = Session.open(scan, model=model)
    images = [session.image, *session.channels]
    card = model.card
    watch = Stopwatch()
    # MONAI has no transform that finds lungs.
    whole = card.model_copy(update={"crop": "none"}) if card.crop == "lungs" else card
    seen, _ = working_volume(images, whole, None, watch)
    return model, images, seen, {**session.seconds, **watch.seconds}


def place(
    maps: Any, images: Any, seen: Any, model: Any, stages: dict[str, float], path: Path
) -> None:
    """Maps back on the scan's grid, post-processed and written."""
    import SimpleITK as sitk

    from imbalanceseg.geometry import Grid, image_from_array
    from imbalanceseg.inference.maps import MapRequest
    from imbalanceseg.inference.postprocess import cleaned_labels
    from imbalanceseg.inference.restore import restored

    at = time.perf_counter()
    grid = Grid.of(images[0])
    found = restored(maps, seen, grid, model.card, MapRequest(classes=len(maps)), ())
    stages["restore"] = time.perf_counter() - at
    at = time.perf_counter()
    labels = image_from_array(found["labels"], grid)
    labels = cleaned_labels(labels, model.card, scan=images[0])
    stages["post-process"] = time.perf_counter() - at
    at = time.perf_counter()
    sitk.WriteImage(labels, str(path), True)
    stages["write"] = time.perf_counter() - at


def flops_per_voxel(model: Any) -> float:
    """Of the convolutions, on a small patch; a multiplication and an addition are two."""
    import torch

    total = 0

    def look(module: Any, _: Any, made: torch.Tensor) -> None:
        nonlocal total
        transposed = isinstance(module, torch.nn.ConvTranspose2d | torch.nn.ConvTranspose3d)
        each = prod(module.kernel_size) * module.in_channels // module.groups
        if transposed:
            each //= prod(module.stride)
        total += 2 * each * made.numel()

    kinds = (torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)
    hooks = [m.register_forward_hook(look) for m in model.network.modules() if isinstance(m, kinds)]
    sides = [4 * m for m in model.network.multiples()]
    with torch.no_grad():
        model.network(torch.zeros(1, len(model.card.channels), *sides))
    for hook in hooks:
        hook.remove()
    return total / prod(sides)


def matmul_flops() -> float:
    """The fastest float32 matrix product of this machine, in operations a second."""
    import torch

    a = torch.randn(2048, 2048)
    best = float("inf")
    for _ in range(8):
        at = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - at)
    return 2 * 2048**3 / best


def record(path: Path, seconds: float, stages: dict[str, float], **more: Any) -> None:
    """What a process measured."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = next(float(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    rounded = {name: round(value, 2) for name, value in stages.items()}
    told = {"seconds": round(seconds, 2), "peak_mib": round(peak), "stages": rounded, **more}
    path.write_text(json.dumps(told), encoding="utf-8")


def environment() -> dict[str, str]:
    """The engine of this tree, for interpreters that have it not installed."""
    source = str(Path(__file__).resolve().parents[2] / "ImbalanceSeg")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}


def show(rows: list[dict[str, Any]]) -> None:
    """The table, and where the time of ours went."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=150)
    table = Table(
        "scan", "method", "s", "warm", "times", "peak MiB", "share", "tiles", "Dice", "reference"
    )
    for row in rows:
        table.add_row(
            row["scan"],
            row["method"],
            f"{row['seconds']:.1f}",
            f"{row['warm_seconds']:.1f}" if "warm_seconds" in row else "",
            str(row.get("times_faster", "")),
            str(row["peak_mib"]),
            str(row.get("memory_share", "")),
            str(row.get("tiles", "")),
            f"{row['dice_with_peer']:.4f}" if "dice_with_peer" in row else "",
            str(row.get("reference", "")),
        )
    console.print(table)
    for row in rows:
        stages = ", ".join(f"{name} {value:.1f}" for name, value in row["stages"].items())
        console.print(f"{row['scan']}, {row['method']}: {stages}")
        if "floor_seconds" in row:
            fine = row["stages"]["fine"]
            console.print(
                f"  floor of the tiles {row['floor_seconds']:.1f} s at "
                f"{row['matmul_gflops']:.0f} GFLOPS: {fine / row['floor_seconds']:.2f} times it"
            )


if __name__ == "__main__":
    main()
