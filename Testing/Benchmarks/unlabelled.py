"""Few labels and many images: labels alone, mean teacher and ACTION; same network, same steps.

    python Testing/Benchmarks/unlabelled.py DATA FOLDER [--sets hippocampus,chest]
        [--shares 0.01,0.03,0.1] [--seeds 3] [--iterations 1500]
        [--ways "supervised,mean_teacher,action"]

DATA holds hippocampus. Its 120 training volumes become slices; those of a share of the volumes keep
their labels, and the 40 others judge, whole. `chest` is made of phantoms: lung, and airways as the
rare class. Every training is a process of its own, whose time and memory are told. The same command
goes on where it was stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import numpy as np
import SimpleITK as sitk
import typer
import yaml
from rich.console import Console
from rich.table import Table

from imbalanceseg import load_model, segment
from imbalanceseg.atomic import write_json
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import read_image
from imbalanceseg.synthesis.airway import ct_over
from imbalanceseg.synthesis.tree_growth import grow_chest

WAYS: dict[str, dict[str, Any] | None] = {
    "supervised": None,
    "mean_teacher": {"kind": "mean_teacher"},
    "pruned_agreement": {"kind": "pruned_agreement"},
    "action": {"kind": "action"},
    "action, cyclic": {"kind": "action", "cyclic": True},
}
RECIPE: dict[str, Any] = {
    "network": {
        "name": "nnunet",
        "settings": {
            "features": [16, 32, 64, 128],
            "kernels": [[3, 3]] * 4,
            "strides": [[1, 1], [2, 2], [2, 2], [2, 2]],
        },
    },
    "loss": {"name": "dice_ce"},
    "supervision": {"kind": "output"},
    "optimizer": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-4},
    "schedule": {"name": "cosine", "warmup": 50},
    "sampling": {"foreground": 0.5},
    "augmentation": {"mirror": 0},
    "batch": 8,
    "ema": 0.99,
    "judge_mirrored": False,
}
_PATCH = {"hippocampus": [40, 56], "chest": [64, 64]}
_CLASSES = {"hippocampus": ("anterior", "posterior"), "chest": ("lung", "airway")}
_DESCRIBED = {"channel_names": {"0": "MR"}, "labels": {"0": "background", "1": "a", "2": "b"}}
_CHESTS, _JUDGING_CHESTS = range(24), range(100, 106)
_CHEST_MM, _CHEST_SCALE = 2.0, 0.6

Volume = tuple[str, sitk.Image, sitk.Image]


def volumes(name: str, data: Path, judging: bool) -> Iterator[Volume]:
    """Name, image and label of every volume of one half of a set."""
    if name == "chest":
        for seed in _JUDGING_CHESTS if judging else _CHESTS:
            anatomy = grow_chest(seed, _CHEST_MM, _CHEST_SCALE)
            ct, airway = ct_over(anatomy, seed)
            label = (anatomy.lung_distance_mm < 0).astype(np.uint8)
            label[sitk.GetArrayViewFromImage(airway) > 0] = 2
            yield f"chest{seed:03d}", ct, image_from_array(label, Grid.of(ct))
        return
    folder = data / "hippocampus" / ("val" if judging else "train")
    for path in sorted((folder / "images").glob("*.nii.gz")):
        image = sitk.Normalize(sitk.Cast(read_image(path), sitk.sitkFloat32))
        label = read_image(folder / "labels" / path.name)
        # Slices as 2D files have no orientation; a volume that has one would be turned upright.
        for one in (image, label):
            one.SetDirection(np.eye(3).ravel())
        yield path.name[:-7], image, label


def sliced(name: str, data: Path, folder: Path) -> list[dict[str, str]]:
    """Every training slice as a 2D file, and which volume it is of."""
    listed = folder / "slices.json"
    if listed.is_file():
        found: list[dict[str, str]] = json.loads(listed.read_text(encoding="utf-8"))
        return found
    rows = []
    for case, image, label in volumes(name, data, judging=False):
        for part, volume in (("images", image), ("labels", label)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            for z in range(volume.GetSize()[2]):
                sitk.WriteImage(volume[:, :, z], str(folder / part / f"{case}_{z:03d}.nrrd"))
        rows += [{"case": case, "name": f"{case}_{z:03d}.nrrd"} for z in range(image.GetSize()[2])]
    write_json(listed, rows)
    return rows


def datalists(rows: list[dict[str, str]], share: float, seed: int, folder: Path) -> list[Path]:
    """A list of slices with labels, of so large a share of the volumes, and one of the others."""
    cases = sorted({row["case"] for row in rows})
    count = max(1, round(share * len(cases)))
    kept = set(np.random.default_rng(seed).permutation(cases)[:count].tolist())
    paths = []
    for part in ("labelled", "unlabelled"):
        entries = []
        for row in rows:
            if (row["case"] in kept) == (part == "labelled"):
                entry = {"image": f"images/{row['name']}"}
                if part == "labelled":
                    entry["label"] = f"labels/{row['name']}"
                entries.append(entry)
        path = folder / f"{part}-{share:g}-{seed}.json"
        described = {
            "channel_names": {"0": "MR"},
            "labels": {"0": "background", "1": "a", "2": "b"},
        }
        write_json(path, described | {"training": entries})
        paths.append(path)
    return paths


def trained(run: Path, recipe: Path, lists: list[Path], seed: int, iterations: int) -> float:
    """Train in a process of its own; its peak memory in MiB."""
    command = [sys.executable, "-m", "imbalanceseg", "train", str(lists[0]), "-o", str(run)]
    if (run / "run.json").is_file():
        command.append("--resume")
    else:
        command += ["--recipe", str(recipe), "--seed", str(seed), "--iterations", str(iterations)]
        if "unlabelled" in yaml.safe_load(recipe.read_text(encoding="utf-8")):
            command += ["--unlabelled", str(lists[1])]
    command += ["--progress", "none", "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"The training in {run} failed.")
    return usage.ru_maxrss / 1024


def dice(model: Path, judging: list[Volume]) -> dict[int, float]:
    """Mean over volumes, by class."""
    loaded = load_model(model)
    scores: dict[int, list[float]] = {1: [], 2: []}
    for _, image, label in judging:
        found = sitk.GetArrayFromImage(segment(image, loaded, device="cpu", maps=()).labels)
        true = sitk.GetArrayFromImage(label)
        for value, of_class in scores.items():
            size = (found == value).sum() + (true == value).sum()
            if size:
                of_class.append(2 * float(((found == value) & (true == value)).sum() / size))
    return {value: fmean(of_class) for value, of_class in scores.items()}


def show(rows: list[dict[str, Any]]) -> None:
    """Means over seeds, with their spread."""
    for name in dict.fromkeys(row["set"] for row in rows):
        first, second = _CLASSES[name]
        table = Table("labels", "way", first, second, "s a step", "MiB", title=name)
        of_set = [row for row in rows if row["set"] == name]
        for share, way in dict.fromkeys((row["share"], row["way"]) for row in of_set):
            runs = [row for row in of_set if (row["share"], row["way"]) == (share, way)]
            cells = []
            for figure in ("dice_1", "dice_2"):
                values = [row[figure] for row in runs]
                spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
                cells.append(f"{fmean(values):.3f}{spread}")
            cells.append(f"{fmean(row['seconds_a_step'] for row in runs):.3f}")
            cells.append(f"{fmean(row['memory_mib'] for row in runs):.0f}")
            table.add_row(f"{share:.0%}", way, *cells)
        Console(width=110).print(table)


def main(
    data: Annotated[Path, typer.Argument(help="Folder with the data sets.")],
    folder: Annotated[Path, typer.Argument(help="Receives slices, trainings and results.json.")],
    sets: Annotated[str, typer.Option(help="hippocampus, chest.")] = "hippocampus,chest",
    shares: Annotated[str, typer.Option(help="Of the volumes that keep labels.")] = "0.01,0.03,0.1",
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    iterations: Annotated[int, typer.Option(min=10)] = 1500,
    ways: Annotated[str, typer.Option(help=", ".join(WAYS))] = "supervised,mean_teacher,action",
) -> None:
    """Train every way at every share, and judge all on whole volumes."""
    results = folder / "results.json"
    folder.mkdir(parents=True, exist_ok=True)
    rows = json.loads(results.read_text(encoding="utf-8")) if results.exists() else []
    done = {(row["set"], row["share"], row["way"], row["seed"]) for row in rows}
    wanted = [name.strip() for name in ways.split(";" if ";" in ways else ",")]
    for name in sets.split(","):
        place = folder / name
        slices = sliced(name, data, place)
        judging = list(volumes(name, data, judging=True))
        for share in map(float, shares.split(",")):
            for seed in range(seeds):
                lists = datalists(slices, share, seed, place)
                for way in wanted:
                    if (name, share, way, seed) in done:
                        continue
                    run = place / f"{way.replace(', ', '-')}-{share:g}-{seed}"
                    recipe = place / f"{way.replace(', ', '-')}.yaml"
                    asked = RECIPE | {"patch": _PATCH[name], "validate_every": iterations}
                    if WAYS[way] is not None:
                        asked |= {"unlabelled": WAYS[way]}
                    recipe.write_text(yaml.safe_dump(asked), encoding="utf-8")
                    began = time.perf_counter()
                    memory = trained(run, recipe, lists, seed, iterations)
                    log = (run / "fold_0" / "log.csv").read_text(encoding="utf-8").splitlines()
                    scores = dice(run / "model", judging)
                    row = {"set": name, "share": share, "way": way, "seed": seed}
                    row |= {f"dice_{value}": round(score, 4) for value, score in scores.items()}
                    row |= {
                        "seconds_a_step": float(log[-1].split(",")[1]) / iterations,
                        "memory_mib": memory,
                        "seconds": round(time.perf_counter() - began),
                    }
                    rows.append(row)
                    write_json(results, rows)
                    print(row, flush=True)
    show(rows)


if __name__ == "__main__":
    typer.run(main)
