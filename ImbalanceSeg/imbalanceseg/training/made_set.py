"""A training set that a recipe asks to be made: real scans lend shapes and texture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from imbalanceseg.errors import InputError
from imbalanceseg.io import write_image, write_json
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress
from imbalanceseg.synthesis.airway_cases import AirwaySources, airway_case
from imbalanceseg.synthesis.lesion_cases import LesionSources, lesion_case
from imbalanceseg.training.recipe import Synthesis

Maker = Callable[[int, bool], tuple[sitk.Image, sitk.Image, str]]

MADE = "made"
"""Folder of the made cases in that of a training."""
ANATOMIES = "anatomies"
"""Folder of the chests in that of the made cases."""

_ENDING = ".nii.gz"
_PARTS = ("training", "validation")


def make_set(
    synthesis: Synthesis,
    sources: Path,
    folder: Path,
    progress: ProgressCallback = ignore_progress,
) -> Path:
    """Make what a recipe is trained on, or what of it does not lie there already.

    Args:
        synthesis: how many cases of what.
        sources: folder with the real sets that :class:`AirwaySources`, :class:`LesionSources` and
            :class:`TumorSources` read; sets that are missing there are done without.
        folder: receives ``images``, ``labels`` and, last, the datalist; chests are kept there too.
        progress: receives an event a case.

    Returns:
        A MONAI datalist, whose ``validation`` holds cases made of other scans and seeds; each entry
        says what it is made of.

    Raises:
        InputError: ``dataset-missing``; ``made-other`` and ``made-damaged`` where ``folder`` holds
            what another recipe has asked for, and what cannot be read.
    """
    datalist = folder / f"{synthesis.task}.json"
    if datalist.is_file():
        _begun(datalist, synthesis)
        return datalist
    if not sources.is_dir():
        raise InputError(
            "dataset-missing",
            f"There is no folder {sources}.",
            "This recipe makes its own cases; give the folder of the real scans they are made of, "
            "or an empty one to do without.",
        )
    make = _maker(synthesis.task, sources, folder / ANATOMIES)
    begun = folder / f".{synthesis.task}.partial.json"
    described = _begun(begun, synthesis)
    total = synthesis.cases + synthesis.validation_cases
    for number in range(sum(len(described[part]) for part in _PARTS), total):
        validation = number >= synthesis.cases
        name = f"{synthesis.task}_{number:03d}{_ENDING}"
        progress(ProgressEvent("make", number, total, name))
        # Real validation cases, where there are any, have the first seeds.
        seed = number - synthesis.cases if validation else synthesis.seed + number
        image, label, about = make(seed, validation)
        for kind, made in (("images", image), ("labels", label)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write_image(made, folder / kind / name)
        entry = {"image": f"images/{name}", "label": f"labels/{name}", "about": about}
        described[_PARTS[validation]].append(entry)
        write_json(begun, described)
    progress(ProgressEvent("make", total, total))
    begun.rename(datalist)
    return datalist


def _begun(path: Path, synthesis: Synthesis) -> dict[str, Any]:
    """What was made before an interruption."""
    asked = synthesis.model_dump(exclude={"fresh"})
    if not path.is_file():
        return {
            "synthesis": asked,
            "channel_names": {"0": "CT" if synthesis.task == "airway" else "MR"},
            "labels": {"background": 0, synthesis.task: 1},
            **{part: [] for part in _PARTS},
        }
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        before = found["synthesis"]
        counted = [len(found[part]) for part in _PARTS]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "made-damaged",
            f"The list of made cases {path} cannot be read.",
            "Remove it and start the training again.",
        ) from error
    if before != asked or sum(counted) > synthesis.cases + synthesis.validation_cases:
        raise InputError(
            "made-other",
            f"{path.parent} holds cases that another recipe asked for.",
            "Choose another folder, or remove them.",
        )
    return found


def _maker(task: str, sources: Path, library: Path) -> Maker:
    if task == "airway":
        chests = AirwaySources.read(sources, library)
        return lambda seed, validation: airway_case(seed, chests, validation)
    if task == "lesion":
        lesions = LesionSources.read(sources)
        return lambda seed, validation: lesion_case(seed, lesions, validation)
    from imbalanceseg.synthesis.tumor_cases import TumorSources, tumor_case

    tumors = TumorSources.read(sources)
    return lambda seed, validation: tumor_case(seed, tumors, validation)
