"""Does disagreement of pruned copies find what is spoilt, and does attending to it help?

    python Testing/Benchmarks/hard_samples.py DATA FOLDER [--sets hippocampus,nuclei,lesion]
        [--seeds 3] [--iterations 600] [--parts found,attended]

DATA holds hippocampus and nuclei_2d. `found`: a tenth of the training cases is spoilt, by noise and
low contrast or by moved and mirrored labels, half of each; a network is trained on all, and the
training cases are ranked by disagreement, by their loss, and by chance. Precision at a tenth: of so
many cases ranked first, the share that was spoilt; and of each kind, the share that is among them.
`attended`: the same training with and without `hard_samples: on`, on what nobody has spoilt, judged
on cases that no training sees.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import numpy as np
import SimpleITK as sitk
import torch
import typer
from rich.console import Console
from rich.table import Table

from imbalanceseg.atomic import write_json
from imbalanceseg.inference.pruning import pruned_copy
from imbalanceseg.io import write_image
from imbalanceseg.losses import create_loss
from imbalanceseg.planning.dataset import open_dataset
from imbalanceseg.planning.prepare import PreparedCase, prepare
from imbalanceseg.synthesis.lesions import lesion_phantom
from imbalanceseg.training.hard_samples import SPARSITIES, disagreement
from imbalanceseg.training.recipe import Recipe
from imbalanceseg.training.train import read_run, start_run, train
from imbalanceseg.training.validation import case_probability, dice_by_class, labels_of

RECIPE: dict[str, Any] = {
    "network": {"name": "plan", "width": 0.375},
    "supervision": {"kind": "output"},
    "optimizer": {"name": "adamw", "learning_rate": 2e-3, "weight_decay": 1e-4},
    "schedule": {"name": "cosine", "warmup": 30},
    "augmentation": {"mirror": 0},
    "ema": 0.99,
    "judge_mirrored": False,
}
_OF_SET: dict[str, dict[str, Any]] = {
    "hippocampus": {"patch": [40, 56, 40], "batch": 2},
    "nuclei": {"patch": [128, 128], "batch": 4},
    "lesion": {"patch": [48, 48, 48], "batch": 2, "sampling": {"instance": 0.6}},
}
_LESION_MM, _LESIONS, _JUDGING_LESIONS = 1.5, range(20), range(100, 106)
_SPOILT = 0.1
_CPU = torch.device("cpu")


def halves(name: str, data: Path, folder: Path) -> tuple[Path, Path]:
    """Folders of the cases to train on and to judge on."""
    if name == "hippocampus":
        return data / "hippocampus" / "train", data / "hippocampus" / "val"
    if name == "nuclei":
        return data / "nuclei_2d" / "train", data / "nuclei_2d" / "val"
    places = folder / "train", folder / "val"
    for place, seeds in zip(places, (_LESIONS, _JUDGING_LESIONS), strict=True):
        for seed in seeds:
            target = place / "images" / f"lesion{seed:03d}.nii.gz"
            if target.is_file():
                continue
            for part in ("images", "labels"):
                (place / part).mkdir(parents=True, exist_ok=True)
            image, label = lesion_phantom(seed, _LESION_MM)
            write_image(label, place / "labels" / target.name)
            write_image(image, target)
        described = {"channel_names": {"0": "FLAIR"}, "labels": {"0": "background", "1": "lesion"}}
        write_json(place / "dataset.json", described)
    return places


def spoilt_copy(source: Path, target: Path, seed: int) -> dict[str, list[str]]:
    """Copy a dataset with a tenth of it spoilt; the names of the spoilt cases, by what was done."""
    listed = target / "spoilt.json"
    if listed.is_file():
        known: dict[str, list[str]] = json.loads(listed.read_text(encoding="utf-8"))
        return known
    draw = np.random.default_rng(seed)
    files = sorted((source / "images").iterdir())
    chosen = draw.permutation(len(files))[: max(2, round(_SPOILT * len(files)))].tolist()
    for part in ("images", "labels"):
        (target / part).mkdir(parents=True, exist_ok=True)
    described = source / "dataset.json"
    if described.is_file():
        (target / "dataset.json").write_bytes(described.read_bytes())
    for number, file in enumerate(files):
        label = next((source / "labels").glob(f"{file.name.split('.')[0]}.*"))
        image_to, label_to = target / "images" / file.name, target / "labels" / label.name
        image_to.write_bytes(file.read_bytes())
        label_to.write_bytes(label.read_bytes())
        if number in chosen[::2]:
            _blurred_out(file, image_to, draw)
        elif number in chosen:
            _wrong_label(label, label_to)
    names = [files[number].name.split(".")[0] for number in chosen]
    spoilt = {"faint": names[::2], "wrong label": names[1::2]}
    write_json(listed, spoilt)
    return spoilt


def _blurred_out(source: Path, target: Path, draw: np.random.Generator) -> None:
    """A fifth of the contrast and as much noise as there was signal."""
    image = sitk.ReadImage(str(source))
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    faint = values.mean() + 0.2 * (values - values.mean())
    made = faint + draw.normal(0, 0.5 * values.std(), values.shape)
    changed = sitk.GetImageFromArray(
        np.clip(made, values.min(), values.max()).astype(sitk.GetArrayViewFromImage(image).dtype),
        isVector=image.GetNumberOfComponentsPerPixel() > 1,
    )
    changed.CopyInformation(image)
    sitk.WriteImage(changed, str(target))


def _wrong_label(source: Path, target: Path) -> None:
    """The case's own label, moved by a quarter of the image and mirrored."""
    label = sitk.ReadImage(str(source))
    values = sitk.GetArrayFromImage(label)
    for axis, n in enumerate(values.shape[:3]):
        values = np.roll(values, n // 4, axis)
    changed = sitk.GetImageFromArray(np.ascontiguousarray(values[..., ::-1]))
    changed.CopyInformation(label)
    sitk.WriteImage(changed, str(target))


def trained(dataset: Path, run: Path, name: str, seed: int, iterations: int, hard: str) -> Any:
    """The network of a training that sees all cases; it goes on where it was stopped."""
    numbered = name == "nuclei"
    values = RECIPE | _OF_SET[name] | {"hard_samples": hard, "validate_every": iterations}
    if not (run / "run.json").is_file():
        run.mkdir(parents=True, exist_ok=True)
        recipe = Recipe.model_validate(values)
        start_run(dataset, run, recipe, name, numbered=numbered, seed=seed, iterations=iterations)
    made = train(run, "cpu")
    assert made is not None
    return made.model.network


def ranked(
    network: Any, cases: list[PreparedCase], patch: tuple[int, ...]
) -> dict[str, list[float]]:
    """Disagreement and loss of every case."""
    copies = [pruned_copy(network, sparsity) for sparsity in SPARSITIES]
    loss = create_loss("dice_ce")
    found: dict[str, list[float]] = {"disagreement": [], "loss": []}
    for case in cases:
        dense, *weakened = (case_probability([n], case, patch, _CPU) for n in (network, *copies))
        labels = labels_of(dense)
        found["disagreement"].append(disagreement(labels, [labels_of(w) for w in weakened]))
        logits = torch.logit(dense.clamp(1e-6, 1 - 1e-6))
        if len(dense) > 1:
            logits = dense.clamp(min=1e-6).log()
        target = torch.from_numpy(case.label())[None, None].long()
        found["loss"].append(float(loss(logits[None], target)))
    return found


def first_ranked(scores: list[float], names: list[str], count: int) -> set[str]:
    """Names of those with the highest scores."""
    return {names[n] for n in np.argsort(-np.array(scores), kind="stable")[:count]}


def judged(network: Any, run: Path, judging: Path, name: str) -> float:
    """Mean Dice of the classes on the cases that judge."""
    plan = read_run(run).plan
    dataset = open_dataset(judging, name == "nuclei")
    place = run / "judging"
    place.mkdir(exist_ok=True)
    patch = tuple(_OF_SET[name]["patch"])
    scores = []
    for case in prepare(dataset, plan, place):
        found = labels_of(case_probability([network], case, patch, _CPU))
        classes = len({0, *plan.labels}) - 1
        known = [d for d in dice_by_class(found, case.label(), classes) if d is not None]
        scores.append(fmean(known) if known else 1.0)
    return fmean(scores)


def show(rows: list[dict[str, Any]]) -> None:
    """Means over seeds, with their spread."""
    ways = ("disagreement", "loss")
    kinds = [f"{kind} by {way}" for kind in ("faint", "wrong label") for way in ways]
    figures = (*(f"by {way}" for way in (*ways, "chance")), *kinds, "plain", "attended")
    table = Table("set", "seeds", *figures, title="precision at a tenth; Dice on unseen cases")
    for name in dict.fromkeys(row["set"] for row in rows):
        cells = []
        for figure in figures:
            values = [row[figure] for row in rows if row["set"] == name and figure in row]
            spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{fmean(values):.3f}{spread}" if values else "")
        seeds = len({row["seed"] for row in rows if row["set"] == name})
        table.add_row(name, str(seeds), *cells)
    Console(width=160).print(table)


def main(
    data: Annotated[Path, typer.Argument(help="Folder with the data sets.")],
    folder: Annotated[Path, typer.Argument(help="Receives trainings and results.json.")],
    sets: Annotated[str, typer.Option(help=", ".join(_OF_SET))] = "hippocampus,nuclei,lesion",
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    iterations: Annotated[int, typer.Option(min=10)] = 600,
    parts: Annotated[str, typer.Option(help="found, attended")] = "found,attended",
) -> None:
    """Train, rank and judge what the file of results lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results.json"
    rows = json.loads(results.read_text(encoding="utf-8")) if results.exists() else []
    done = {(row["set"], row["seed"], row["part"]) for row in rows}
    for name in sets.split(","):
        training, judging = halves(name, data, folder / name)
        for seed in range(seeds):
            for part in parts.split(","):
                if (name, seed, part) in done:
                    continue
                place = folder / name / f"{part}-{seed}"
                row: dict[str, Any] = {"set": name, "seed": seed, "part": part}
                if part == "found":
                    spoilt = spoilt_copy(training, place / "spoilt", seed)
                    run = place / "run"
                    network = trained(place / "spoilt", run, name, seed, iterations, "off")
                    cases = prepare(
                        open_dataset(place / "spoilt", name == "nuclei"),
                        read_run(run).plan,
                        run / "prepared",
                    )
                    names = [case.name for case in cases]
                    scores = ranked(network, cases, tuple(_OF_SET[name]["patch"]))
                    count = sum(map(len, spoilt.values()))
                    row["by chance"] = round(count / len(names), 4)
                    for by, values in scores.items():
                        first = first_ranked(values, names, count)
                        found = {kind: len(first & set(of)) for kind, of in spoilt.items()}
                        row[f"by {by}"] = round(sum(found.values()) / count, 4)
                        for kind, of in spoilt.items():
                            row[f"{kind} by {by}"] = round(found[kind] / len(of), 4)
                else:
                    for way, hard in (("plain", "off"), ("attended", "on")):
                        run = place / way
                        network = trained(training, run, name, seed, iterations, hard)
                        row[way] = round(judged(network, run, judging, name), 4)
                rows.append(row)
                write_json(results, rows)
                print(row, flush=True)
    show(rows)


if __name__ == "__main__":
    typer.run(main)
