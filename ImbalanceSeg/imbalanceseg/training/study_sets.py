"""The data of the loss study: nuclei, lesion phantoms and airway phantoms, prepared once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from imbalanceseg.errors import InputError
from imbalanceseg.io import write_image, write_json
from imbalanceseg.planning.dataset import open_dataset
from imbalanceseg.planning.fingerprint import fingerprint
from imbalanceseg.planning.plan import Plan, make_plan
from imbalanceseg.planning.prepare import PreparedCase, prepare
from imbalanceseg.progress import ProgressCallback, ProgressEvent

if TYPE_CHECKING:
    import SimpleITK as sitk

    Maker = Callable[[int], tuple[sitk.Image, sitk.Image]]

SET_NAMES = ("nuclei", "lesion", "airway")

_LESION_MM, _AIRWAY_MM, _AIRWAY_SCALE = 1.5, 1.5, 0.7
_LESION_SEEDS = range(8), range(100, 104)
_AIRWAY_SEEDS = range(4), range(100, 102)


@dataclass(frozen=True)
class StudySet:
    """What the losses are compared on.

    Attributes:
        name: of the set.
        about: one sentence for the head of its table; another sentence is another set.
        patch: voxels of a training patch along each axis.
        batch: patches of a step.
        judged: ``"instances"`` or ``"tree"``, beside voxels.
        numbered: label values number instances.
        folders: finds or makes, in a folder of the set, the cases to train on and those to judge
            on; the two folders have different names.
    """

    name: str
    about: str
    patch: tuple[int, ...]
    batch: int
    judged: Literal["instances", "tree"]
    numbered: bool
    folders: Callable[[Path, ProgressCallback], tuple[Path, Path]]


@dataclass(frozen=True)
class PreparedSet:
    """A set that runs can be trained and judged on.

    Attributes:
        plan: of the cases to train on; those to judge on are prepared by it too.
        training: cases.
        judging: cases that no training sees.
        size_edges: thirds of the sizes of the training instances, mm3 (pixels in 2D).
    """

    plan: Plan
    training: list[PreparedCase]
    judging: list[PreparedCase]
    size_edges: tuple[float, float]


def study_sets(names: Sequence[str], nuclei: Path | None) -> list[StudySet]:
    """The sets of the study by name.

    Args:
        names: from :data:`SET_NAMES`.
        nuclei: folder with ``train`` and ``val``, each with ``images`` and ``labels`` whose values
            number the nuclei; needed by ``"nuclei"`` alone.

    Raises:
        InputError: a name is unknown, or the nuclei are asked for and not there.
    """
    unknown = [name for name in names if name not in SET_NAMES]
    if unknown or not names:
        what = f"There is no set {unknown[0]!r}." if unknown else "No set was named."
        raise InputError("study-set-unknown", what, f"Choose from {', '.join(SET_NAMES)}.")
    of_name = {"nuclei": _nuclei, "lesion": _lesions, "airway": _airways}
    return [of_name[name](nuclei) for name in dict.fromkeys(names)]


def prepared_set(one: StudySet, folder: Path, progress: ProgressCallback) -> PreparedSet:
    """Make, plan and prepare the cases of a set, or take what lies there.

    Args:
        one: the set.
        folder: of the set; exists.
        progress: receives an event a case.

    Raises:
        InputError, OutputError: the cases cannot be read, or the folder not be written to.
    """
    training, judging = one.folders(folder, progress)
    dataset = open_dataset(training, one.numbered)
    plan = make_plan(dataset, fingerprint(dataset, progress=progress))
    place = folder / "prepared"
    place.mkdir(exist_ok=True)
    cases = prepare(dataset, plan, place, progress)
    held_out = prepare(open_dataset(judging, one.numbered), plan, place, progress)
    return PreparedSet(plan, cases, held_out, _thirds(cases, plan))


def phantom_folders(
    make: Maker,
    channel: str,
    training: Sequence[int],
    judging: Sequence[int],
    folder: Path,
    progress: ProgressCallback,
) -> tuple[Path, Path]:
    """Phantoms to train on and to judge on, as two nnU-Net folders; made where they are missing.

    Args:
        make: image and label from a seed.
        channel: name of the image's channel.
        training: seeds.
        judging: other seeds.
        folder: receives ``training`` and ``judging``.
        progress: receives an event a phantom.
    """
    places = folder / "training", folder / "judging"
    for place, seeds in zip(places, (training, judging), strict=True):
        _write_phantoms(place, make, channel, seeds, progress)
    return places


def _nuclei(folder: Path | None) -> StudySet:
    if folder is None or not all((folder / part).is_dir() for part in ("train", "val")):
        where = "No folder was given" if folder is None else f"{folder} has no train and val"
        raise InputError(
            "study-nuclei-missing",
            f"{where} for the set nuclei.",
            "Give a folder with --nuclei, or leave the set out with --sets lesion,airway.",
        )
    return StudySet(
        name="nuclei",
        about="Nuclei in microscopy images, 2D; trained on the folder train, judged on val.",
        patch=(96, 96),
        batch=8,
        judged="instances",
        numbered=True,
        folders=lambda place, progress: (folder / "train", folder / "val"),
    )


def _lesions(_: Path | None) -> StudySet:
    def make(seed: int) -> tuple[sitk.Image, sitk.Image]:
        from imbalanceseg.synthesis.lesions import lesion_phantom

        return lesion_phantom(seed, _LESION_MM)

    return StudySet(
        name="lesion",
        about=f"FLAIR phantoms with lesions, {_LESION_MM} mm; {_listed(*_LESION_SEEDS)}.",
        patch=(40, 40, 40),
        batch=2,
        judged="instances",
        numbered=False,
        folders=partial(phantom_folders, make, "FLAIR", *_LESION_SEEDS),
    )


def _airways(_: Path | None) -> StudySet:
    def make(seed: int) -> tuple[sitk.Image, sitk.Image]:
        from imbalanceseg.synthesis.airway import chest_phantom

        return chest_phantom(seed, _AIRWAY_MM, _AIRWAY_SCALE)

    return StudySet(
        name="airway",
        about=(
            f"Chest CT phantoms of {_AIRWAY_SCALE} times an adult's size, {_AIRWAY_MM} mm; "
            f"{_listed(*_AIRWAY_SEEDS)}."
        ),
        patch=(40, 40, 40),
        batch=2,
        judged="tree",
        numbered=False,
        folders=partial(phantom_folders, make, "CT", *_AIRWAY_SEEDS),
    )


def _listed(training: range, judging: range) -> str:
    return (
        f"seeds {training[0]} to {training[-1]} to train on, {judging[0]} to {judging[-1]} to "
        "judge on"
    )


def _write_phantoms(
    folder: Path, make: Maker, channel: str, seeds: Sequence[int], progress: ProgressCallback
) -> None:
    description = folder / "dataset.json"
    if description.is_file():
        return
    images, labels = folder / "imagesTr", folder / "labelsTr"
    for part in (images, labels):
        part.mkdir(parents=True, exist_ok=True)
    for done, seed in enumerate(seeds):
        progress(ProgressEvent("phantoms", done, len(seeds), f"{folder.name} {seed}"))
        image, label = make(seed)
        write_image(image, images / f"phantom{seed:04d}_0000.nii.gz")
        write_image(label, labels / f"phantom{seed:04d}.nii.gz")
    progress(ProgressEvent("phantoms", len(seeds), len(seeds)))
    # Last: a folder without it is not complete.
    write_json(
        description,
        {
            "channel_names": {"0": channel},
            "labels": {"background": 0, "foreground": 1},
            "numTraining": len(seeds),
            "file_ending": ".nii.gz",
        },
    )


def _thirds(cases: Sequence[PreparedCase], plan: Plan) -> tuple[float, float]:
    voxel = float(np.prod(plan.spacing_mm))
    numbers = [case.components() for case in cases]
    counts = [np.unique(each[each > 0], return_counts=True)[1] for each in numbers]
    low, high = np.quantile(np.concatenate(counts) * voxel, (1 / 3, 2 / 3))
    # Where a third of all instances have one size, it takes a voxel more to be in the next.
    return float(low), float(max(high, low + voxel))
