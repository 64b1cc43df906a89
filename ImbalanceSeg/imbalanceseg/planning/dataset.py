"""What a training set holds: its cases, channels and classes, whatever the layout of its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from imbalanceseg.errors import GeometryError, InputError
from imbalanceseg.geometry import Grid
from imbalanceseg.io import read_image_file
from imbalanceseg.labels import BACKGROUND, UNLABELLED
from imbalanceseg.planning.image_labels import IMAGE_LABELS_FILE, read_image_labels
from imbalanceseg.privacy import case_title

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".tif", ".tiff")
_LAYOUTS = (
    "Give an nnU-Net v2 folder (dataset.json, imagesTr, labelsTr), a folder with images and "
    "labels, or a MONAI datalist in JSON."
)


@dataclass(frozen=True)
class TrainingCase:
    """The files of one case.

    Attributes:
        name: unique in the dataset; a pseudonym where that is asked for.
        images: one file a channel, or one file with all channels.
        label: label image; None where no voxel is labelled.
        shows: values of the classes that the image shows, where only that is known; else None.
        fold: cases of one number are held out together; None where the dataset does not say.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    fold: int | None = None
    shows: tuple[int, ...] | None = None

    @property
    def labelled(self) -> bool:
        """Whether anything is known of what it shows."""
        return self.label is not None or self.shows is not None


@dataclass(frozen=True)
class Dataset:
    """A training set.

    Attributes:
        name: for people.
        channel_names: for example ``("CT",)``; empty when the dataset does not say. ``CT`` decides
            how intensities are normalised.
        labels: class name by value, background 0 included; empty when the dataset does not say.
        unlabelled: label value that means unlabelled, 255 or nnU-Net's ``ignore``.
        numbered: label values number the instances of one class (nuclei), and are no classes.
        cases: in the order of their names.
    """

    name: str
    channel_names: tuple[str, ...]
    labels: Mapping[int, str]
    unlabelled: int
    numbered: bool
    cases: tuple[TrainingCase, ...]


@dataclass(frozen=True, eq=False)
class CaseArrays:
    """A case in memory, its axes turned so that Z, Y, X run nearest to superior, posterior, left.

    Files of one dataset are stored in many orders; turned alike, left is left in all of them.

    Attributes:
        image: float32 ``[C, Z, Y, X]``; one slice, in the file's order, for 2D images.
        label: uint8 ``[Z, Y, X]``, classes, 255 where unlabelled; None without a label. All 255
            where the image is only known to show something, all 0 where it shows nothing.
        instances: int32 ``[Z, Y, X]``, where the label file numbers instances; None otherwise.
        spacing_mm: along Z, Y, X; 1 pixel for 2D images.
        grid: where the voxels lie; None for 2D images.
    """

    image: NDArray[np.float32]
    label: NDArray[np.uint8] | None
    instances: NDArray[np.int32] | None
    spacing_mm: tuple[float, float, float]
    grid: Grid | None

    @property
    def flat(self) -> bool:
        """Whether the files are 2D."""
        return self.grid is None


def open_dataset(path: str | os.PathLike[str], numbered: bool = False) -> Dataset:
    """Find out what a dataset holds, without reading an image.

    Args:
        path: an nnU-Net v2 folder; a folder with ``images`` and ``labels`` whose files have equal
            names (and, if it likes, a ``dataset.json`` with ``channel_names`` and ``labels``); or a
            MONAI datalist, JSON with ``training``: a list of ``image``, ``label`` and maybe
            ``fold``; those of another list, ``validation``, are in fold 0. In a folder,
            ``image_labels.csv`` may say which classes the images without a label file show; see
            :func:`~imbalanceseg.planning.image_labels.read_image_labels`.
        numbered: label values number the instances of one class; ``"instances": true`` in
            ``dataset.json`` says the same.

    Raises:
        InputError: none of these layouts, no case, or a description that cannot be read.
    """
    path = Path(path)
    if path.is_file():
        return _from_datalist(path, numbered)
    if not path.is_dir():
        raise InputError("dataset-missing", f"There is no dataset {path}.", _LAYOUTS)
    described = {"instances": numbered} | _described(path / "dataset.json")
    if (path / "imagesTr").is_dir():
        groups = _nnunet_images(path / "imagesTr", described)
        return _paired(path, described, groups, path / "labelsTr")
    if (path / "images").is_dir():
        groups = {name: (file,) for name, file in _images(path / "images")}
        return _paired(path, described, groups, path / "labels")
    raise InputError("dataset-layout", f"{path} has neither imagesTr nor images in it.", _LAYOUTS)


def open_images(path: str | os.PathLike[str], numbered: bool = False, channels: int = 1) -> Dataset:
    """As :func:`open_dataset`, for work that needs no labels: those that are missing are None.

    Args:
        path: any layout of :func:`open_dataset`, or a folder with nothing but images.
        numbered: see there.
        channels: of an image; in such a folder the files of several are named as nnU-Net does.

    Raises:
        InputError: no image is found.
    """
    path = Path(path)
    if path.is_file() or any((path / part).is_dir() for part in ("imagesTr", "images")):
        found = open_dataset(path, numbered)
        there = (case.label is not None and case.label.is_file() for case in found.cases)
        cases = (
            case if known else replace(case, label=None, shows=None)
            for case, known in zip(found.cases, there, strict=True)
        )
        return replace(found, cases=tuple(cases))
    if not path.is_dir():
        raise InputError("dataset-missing", f"There is no folder {path}.", _LAYOUTS)
    groups = _nnunet_images(path, {})
    if channels < 2:
        groups = {name: (file,) for name, file in _images(path)}
    if not groups:
        raise InputError(
            "dataset-empty", f"{path} holds no image to learn from.", "Give a folder of images."
        )
    bare = tuple(
        TrainingCase(case_title(name), files, None) for name, files in sorted(groups.items())
    )
    return Dataset(path.name, (), {}, UNLABELLED, False, bare)


def open_unlabelled(path: str | os.PathLike[str], like: Dataset) -> Dataset:
    """Images to learn from without labels; labels that lie beside them are not looked at.

    Args:
        path: see :func:`open_images`.
        like: the dataset with labels, whose channels these images have.

    Raises:
        InputError: no image is found.
    """
    found = open_images(path, channels=len(like.channel_names))
    bare = tuple(replace(case, label=None, fold=None, shows=None) for case in found.cases)
    return replace(like, name=f"{like.name} without labels", cases=bare)


def read_case(dataset: Dataset, case: TrainingCase) -> CaseArrays:
    """Read one case of a dataset.

    Several values per voxel are taken as colours and averaged, unless the dataset names several
    channels: microscopy sets mix grey and colour files of the same grey images.

    Raises:
        InputError: a file is missing, cannot be read, or holds what it should not.
        GeometryError: channels or label lie on another grid than the first image.
    """
    images = [_read(path) for path in case.images]
    first = images[0]
    for path, image in zip(case.images, images, strict=True):
        _require_same_place(image, first, path, case.images[0])
    colours = len(dataset.channel_names) > 1
    channels = np.concatenate([_channels(_turned(image), colours) for image in images])
    if not np.isfinite(channels).all():
        raise InputError(
            "image-not-finite",
            f"{_first_not_finite(case, images)} has voxels that are NaN or infinite.",
            "Replace them, for example by the lowest value of the image.",
        )
    label = instances = None
    if case.label is not None:
        label_image = _read(case.label)
        _require_same_place(label_image, first, case.label, case.images[0])
        values = _whole_numbers(_turned(label_image), case.label)
        if dataset.numbered:
            instances = values.astype(np.int32)
            label = (values > 0).astype(np.uint8)
        else:
            label = _classes(values, case.label, dataset.unlabelled)
    elif case.shows is not None:
        label = np.full(channels.shape[1:], UNLABELLED if case.shows else BACKGROUND, np.uint8)
    grid = None if first.GetDimension() == 2 else Grid.of(_turned(first))
    # The dots per inch that photographs carry say nothing about the object.
    x, y, z = (1.0, 1.0, 1.0) if grid is None else grid.spacing_mm
    return CaseArrays(channels, label, instances, (z, y, x), grid)


def case_name(path: Path) -> str | None:
    """File name without its ending; None when it is no image."""
    ending = next((e for e in IMAGE_ENDINGS if path.name.lower().endswith(e)), None)
    return path.name[: -len(ending)] if ending and not path.name.startswith(".") else None


def _described(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error
    if not isinstance(found, dict):
        raise _unreadable(path, "it holds no object")
    return found


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        "dataset-description",
        f"The description {path} cannot be read: {why}.",
        "It is JSON with channel_names and labels, or a MONAI datalist.",
    )


def _from_datalist(path: Path, numbered: bool) -> Dataset:
    described = {"instances": numbered} | _described(path)
    cases: dict[str, TrainingCase] = {}
    for part in ("training", "validation"):
        entries = described.get(part, [] if part == "validation" else None)
        if not isinstance(entries, list) or (part == "training" and not entries):
            raise _unreadable(path, f"it has no list named {part}")
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict) or "image" not in entry:
                raise _unreadable(path, f"entry {number} of {part} has no image")
            fold = 0 if part == "validation" else entry.get("fold")
            if not (fold is None or (isinstance(fold, int) and fold >= 0)):
                raise _unreadable(path, f"entry {number} of {part} has the fold {fold!r}")
            given = entry["image"] if isinstance(entry["image"], list) else [entry["image"]]
            images = tuple(path.parent / str(file) for file in given)
            label = path.parent / str(entry["label"]) if entry.get("label") else None
            name = case_name(label or images[0]) or images[0].name
            if name in cases:
                name = f"{name}-{len(cases)}"
            cases[name] = TrainingCase(name, images, label, fold)
    return _dataset(path.stem, described, cases.values(), path)


def _paired(
    folder: Path, described: Mapping[str, Any], groups: Mapping[str, tuple[Path, ...]], labels: Path
) -> Dataset:
    """Cases whose label has the image's name; one that is missing is found when it is read."""
    known = dict(_images(labels)) if labels.is_dir() else {}
    ending = str(described.get("file_ending") or ".nii.gz")
    cases = [
        TrainingCase(name, images, known.get(name, labels / f"{name}{ending}"))
        for name, images in sorted(groups.items())
    ]
    found = _dataset(folder.name, described, cases, folder)
    table = folder / IMAGE_LABELS_FILE
    return _with_image_labels(found, table) if table.is_file() else found


def _with_image_labels(dataset: Dataset, table: Path) -> Dataset:
    """Cases without a label file show what the table says; a label file says more than a table."""
    shown = read_image_labels(table, dataset.labels)
    cases = (
        replace(case, label=None, shows=shown[case.name])
        if case.name in shown and not (case.label and case.label.is_file())
        else case
        for case in dataset.cases
    )
    return replace(dataset, cases=tuple(cases))


def _dataset(
    name: str, described: Mapping[str, Any], cases: Iterable[TrainingCase], where: Path
) -> Dataset:
    cases = tuple(replace(case, name=case_title(case.name)) for case in cases)
    if not cases:
        raise InputError("dataset-empty", f"{where} holds no image to train on.", _LAYOUTS)
    channels = described.get("channel_names") or described.get("modality") or {}
    if isinstance(channels, str):
        channels = {"0": channels}
    try:
        names = tuple(str(channels[key]) for key in sorted(channels, key=int))
        labels, unlabelled = _label_names(described.get("labels") or {})
    except (TypeError, ValueError) as error:
        raise _unreadable(where, f"its channel_names or labels are malformed ({error})") from error
    if described["instances"]:
        labels = {0: "background", 1: next(iter(labels[v] for v in labels if v), "instance")}
    title = str(described.get("name") or name)
    return Dataset(title, names, labels, unlabelled, bool(described["instances"]), cases)


def _label_names(given: Mapping[str, Any]) -> tuple[dict[int, str], int]:
    """Class names by value, and the value of ``ignore``; ``{"1": "a"}`` and ``{"a": 1}`` alike."""
    labels: dict[int, str] = {}
    unlabelled = UNLABELLED
    for key, value in given.items():
        if isinstance(value, list):
            raise ValueError(f"the region {key!r} joins several values, which is not supported")
        number, name = (int(key), str(value)) if str(key).isdigit() else (int(value), str(key))
        if name == "ignore":
            unlabelled = number
        elif 0 <= number < UNLABELLED:
            labels[number] = name
        else:
            raise ValueError(f"the label {name!r} has the value {number}")
    return dict(sorted(labels.items())), unlabelled


def _images(folder: Path) -> list[tuple[str, Path]]:
    named = ((case_name(path), path) for path in sorted(folder.iterdir()))
    return [(name, path) for name, path in named if name is not None]


def _nnunet_images(folder: Path, described: Mapping[str, Any]) -> dict[str, tuple[Path, ...]]:
    """``CASE_0000``, ``CASE_0001``: the channels of a case, in their order.

    All channels that ``dataset.json`` names are expected, so that one that is missing is told of.
    """
    found: dict[str, dict[int, Path]] = {}
    for name, path in _images(folder):
        case, _, channel = name.rpartition("_")
        if case and len(channel) == 4 and channel.isdigit():
            found.setdefault(case, {})[int(channel)] = path
    expected = range(len(described.get("channel_names") or ()))
    groups = {}
    for case, files in found.items():
        ending = next(iter(files.values())).name.removeprefix(f"{case}_{min(files):04d}")
        wanted = sorted({*files, *expected})
        groups[case] = tuple(files.get(n, folder / f"{case}_{n:04d}{ending}") for n in wanted)
    return groups


def _read(path: Path) -> sitk.Image:
    """A 2D or 3D image with any number of values per voxel."""
    return read_image_file(path, dimensions=(2, 3), scalar=False)


def _turned(image: sitk.Image) -> sitk.Image:
    return image if image.GetDimension() == 2 else sitk.DICOMOrient(image, "LPS")


def _channels(image: sitk.Image, colours: bool) -> NDArray[np.float32]:
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    if image.GetNumberOfComponentsPerPixel() == 1:
        array = array[..., None]
    elif not colours:
        # Red, green and blue; a fourth channel is opacity.
        array = array[..., :3].mean(axis=-1, keepdims=True)
    if image.GetDimension() == 2:
        array = array[None]
    return np.ascontiguousarray(np.moveaxis(array, -1, 0))


def _whole_numbers(image: sitk.Image, path: Path) -> NDArray[Any]:
    values = sitk.GetArrayFromImage(image)
    whole = np.issubdtype(values.dtype, np.integer) or np.array_equal(values, np.round(values))
    if image.GetNumberOfComponentsPerPixel() != 1 or not whole or values.min() < 0:
        raise InputError(
            "labels-not-whole",
            f"{path} holds other values than whole numbers from 0.",
            "Give a label image.",
        )
    return values if image.GetDimension() == 3 else values[None]


def _classes(values: NDArray[Any], path: Path, unlabelled: int) -> NDArray[np.uint8]:
    classes = np.where(values == unlabelled, UNLABELLED, values)
    if classes.max() > UNLABELLED:
        raise InputError(
            "labels-out-of-range",
            f"{path} has the label {classes.max():g}; labels are 0 to 254, and 255 is unlabelled.",
            "If its values number instances of one class, say so (--instances).",
        )
    return classes.astype(np.uint8)


def _require_same_place(image: sitk.Image, first: sitk.Image, path: Path, first_path: Path) -> None:
    if image.GetDimension() != first.GetDimension():
        how = f"it is {image.GetDimension()}D, not {first.GetDimension()}D"
    elif image.GetDimension() == 3:
        mine, wanted = Grid.of(image), Grid.of(first)
        if mine.same_as(wanted):
            return
        how = mine.difference_to(wanted)
    elif image.GetSize() == first.GetSize():
        return
    else:
        how = f"its size is {image.GetSize()}, not {first.GetSize()}"
    raise GeometryError(
        "grid-mismatch",
        f"{path} does not lie on the grid of {first_path.name}: {how}.",
        "Resample it onto the image first.",
    )


def _first_not_finite(case: TrainingCase, images: list[sitk.Image]) -> Path:
    for path, image in zip(case.images, images, strict=True):
        if not np.isfinite(sitk.GetArrayViewFromImage(image)).all():
            return path
    return case.images[0]
