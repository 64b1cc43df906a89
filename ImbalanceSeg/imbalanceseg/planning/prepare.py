"""Cases made ready for training, once: cropped, normalised, resampled, stored in chunks on disk.

A patch is read without the rest of its case. Needs blosc2 (``pip install "imbalanceseg[train]"``).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from imbalanceseg.errors import DependencyError, OutputError
from imbalanceseg.geometry import Grid, Interpolation, image_from_array
from imbalanceseg.io import atomic_path, write_json
from imbalanceseg.labels import BACKGROUND, UNLABELLED
from imbalanceseg.planning.dataset import CaseArrays, Dataset, TrainingCase, read_case
from imbalanceseg.planning.plan import Plan
from imbalanceseg.preprocessing.intensity import normalized
from imbalanceseg.preprocessing.regrid import Steps, nonzero_box, regridded, steps_to
from imbalanceseg.privacy import case_title
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress

_FORMAT = 1
"""Part of every folder's name: counted up when cases are prepared in another way."""
_PREPARED_BY = {
    "anisotropic",
    "axes",
    "label_interpolation",
    "labels",
    "normalization",
    "spacing_mm",
}
_PLACES_A_CLASS = 10_000
_PLACES_A_COMPONENT = 50
_MOST_BACKGROUND_VOXELS = 20_000_000
_CHUNK_VOXELS, _BLOCK_VOXELS = 64, 32


@dataclass(frozen=True, eq=False)
class PreparedArrays:
    """A case as the network sees it. Axes are those of the plan; 2D cases have Y, X.

    Attributes:
        image: float32 ``[C, ...]``, normalised.
        label: uint8 ``[...]``: 0, 1, 2, ... in the order of the plan's labels; 255 unlabelled.
        components: int32 ``[...]``, number of the component or instance, 0 on background.
    """

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    components: NDArray[np.int32]


@dataclass(frozen=True)
class PreparedCase:
    """A prepared case on disk.

    Attributes:
        name: of the case.
        folder: where its files lie.
        shape: voxels along the plan's axes.
        fold: see :class:`~imbalanceseg.planning.dataset.TrainingCase`.
        shows: of every class of the plan, whether the image shows it, where only that is known;
            else None.
    """

    name: str
    folder: Path
    shape: tuple[int, ...]
    fold: int | None = None
    shows: tuple[bool, ...] | None = None

    def image(self, window: Sequence[slice] = ()) -> NDArray[np.float32]:
        """All channels of a window, float32 ``[C, ...]``; only its chunks are read."""
        return np.asarray(self._open("image")[(slice(None), *window)])

    def label(self, window: Sequence[slice] = ()) -> NDArray[np.uint8]:
        """The label in a window, uint8 ``[...]``."""
        return np.asarray(self._open("label")[tuple(window) or slice(None)])

    def components(self, window: Sequence[slice] = ()) -> NDArray[np.int32]:
        """Component numbers in a window, int32 ``[...]``; a window may cut components."""
        return np.asarray(self._open("components")[tuple(window) or slice(None)])

    @cached_property
    def places(self) -> dict[str, NDArray[np.int32]]:
        """Where patches may be centred, by kind, one row ``[index, ...axes]`` a voxel.

        ``foreground``: index is the class; ``instance``: the number of the component;
        ``annotated``: the class, background included. Samples, not all voxels; every component has
        some.
        """
        with np.load(self.folder / "places.npz", allow_pickle=False) as file:
            return {kind: file[kind] for kind in file.files}

    def weight(self, name: str, window: Sequence[slice] = ()) -> NDArray[np.float32]:
        """A weight map that was kept, in a window, float32 ``[...]``."""
        return np.asarray(self._open(f"weight-{name}")[tuple(window) or slice(None)])

    def has_weight(self, name: str) -> bool:
        """Whether a weight map of this name was kept."""
        return (self.folder / f"weight-{name}.b2nd").is_file()

    def keep_weight(self, name: str, weight: NDArray[np.float32]) -> None:
        """Keep a weight map of the whole case, float32 ``[...]``, until it is prepared again.

        Raises:
            OutputError: the folder cannot be written to, or the disk is full.
        """
        _write_chunked(weight, self.folder / f"weight-{name}.b2nd", len(self.shape))

    def _open(self, name: str) -> Any:
        return _blosc2().open(str(self.folder / f"{name}.b2nd"), mode="r", mmap_mode="r")


def prepare(
    dataset: Dataset,
    plan: Plan,
    folder: str | os.PathLike[str],
    progress: ProgressCallback | None = None,
    *,
    labelled: bool = True,
) -> list[PreparedCase]:
    """Prepare every labelled case, or take what was prepared before.

    Cases lie in a folder named by all of the plan that they depend on, so another plan has another
    folder. A case is prepared again when one of its files has changed. An interrupted run goes on
    with the first case that is not complete.

    Args:
        dataset: what to prepare.
        plan: its plan.
        folder: where folders of prepared cases lie; must exist.
        progress: receives an event a case.
        labelled: False for the cases of which nothing is known instead, which become unlabelled
            throughout.

    Raises:
        InputError: a case cannot be read.
        OutputError: the folder cannot be written to, or the disk is full.
        DependencyError: as :func:`require_storage`.
    """
    require_storage()
    progress = progress or ignore_progress
    root = Path(folder) / f"{_slug(dataset.name)}-{_digest(plan)}"
    wanted = [case for case in dataset.cases if case.labelled == labelled]
    ready = []
    for done, case in enumerate(wanted):
        progress(ProgressEvent("prepare", done, len(wanted), case.name))
        target = root / _slug(case.name)
        shape = _complete(target, case)
        if shape is None:
            arrays = prepared_arrays(read_case(dataset, case), plan)
            _store(arrays, target)
            shape = arrays.label.shape
            # Last: a case without it is not complete.
            write_json(target / "case.json", {"sources": _stamps(case), "shape": list(shape)})
        ready.append(PreparedCase(case.name, target, shape, case.fold, _shown(case, plan)))
    progress(ProgressEvent("prepare", len(wanted), len(wanted)))
    return ready


def prepared_arrays(case: CaseArrays, plan: Plan) -> PreparedArrays:
    """Crop to what is not zero, normalise, resample and turn one case; 255 without a label.

    Images are resampled with cubic splines, labels as the plan says, and thick slices are not
    mixed: see :func:`~imbalanceseg.preprocessing.regrid.steps_to`.

    Source: Isensee et al., Nature Methods 18, 2021; there labels are resampled class by class,
    linearly today and with cubic splines at first, which has no meaning for 255.
    """
    whole = case.label
    if whole is None:
        whole = np.full(case.image.shape[1:], UNLABELLED, np.uint8)
    inside = np.any(case.image != 0, axis=0)
    box = nonzero_box(inside)
    channels = zip(case.image, plan.normalization, strict=True)
    image = np.stack([normalized(x[box], scheme, inside[box]) for x, scheme in channels])
    label = _numbered(whole[box], plan)
    components = _components(label, None if case.instances is None else case.instances[box])
    if case.grid is not None:
        start = [span.start for span in reversed(box)]
        grid = case.grid.cropped(start, label.shape[::-1])
        steps = steps_to(grid, plan.spacing_mm, plan.axes, plan.anisotropic)
        image = np.stack([_resampled(channel, grid, steps, "bspline") for channel in image])
        components = _resampled(components, grid, steps, "nearest")
        if plan.label_interpolation == "cubic":
            label = _resampled_by_class(label, grid, steps)
            components = (
                _components(label, None)
                if case.instances is None
                else _spread(components, (label != BACKGROUND) & (label != UNLABELLED))
            )
        else:
            label = _resampled(label, grid, steps, "nearest")
    else:
        image, label, components = image[:, 0], label[0], components[0]
    return PreparedArrays(
        np.ascontiguousarray(image.transpose(0, *(axis + 1 for axis in plan.axes))),
        np.ascontiguousarray(label.transpose(plan.axes)),
        np.ascontiguousarray(components.transpose(plan.axes)),
    )


def _shown(case: TrainingCase, plan: Plan) -> tuple[bool, ...] | None:
    if case.shows is None:
        return None
    return tuple(value in case.shows for value in sorted(plan.labels) if value != BACKGROUND)


def _numbered(label: NDArray[np.uint8], plan: Plan) -> NDArray[np.uint8]:
    """Classes 0, 1, 2, ... in the order of the plan's label values."""
    lookup = np.zeros(256, np.uint8)
    lookup[UNLABELLED] = UNLABELLED
    for number, value in enumerate(sorted({BACKGROUND, *plan.labels})):
        lookup[value] = number
    return lookup[label]


def _components(label: NDArray[np.uint8], instances: NDArray[np.int32] | None) -> NDArray[np.int32]:
    import cc3d

    if instances is not None:
        return instances
    known = np.where(label == UNLABELLED, 0, label)
    return cc3d.connected_components(known, connectivity=26).astype(np.int32)


def _resampled(
    array: NDArray[Any], grid: Grid, steps: Steps, interpolation: Interpolation
) -> NDArray[Any]:
    return sitk.GetArrayFromImage(regridded(image_from_array(array, grid), steps, interpolation))


def _resampled_by_class(label: NDArray[np.uint8], grid: Grid, steps: Steps) -> NDArray[np.uint8]:
    """The class whose share is largest after cubic interpolation; the lower one where two tie."""
    unlabelled = _resampled((label == UNLABELLED).astype(np.uint8), grid, steps, "nearest") > 0
    result = np.zeros(unlabelled.shape, np.uint8)
    largest = np.full(unlabelled.shape, -np.inf, np.float32)
    for number in np.unique(label[label != UNLABELLED]).tolist():
        share = _resampled((label == number).astype(np.float32), grid, steps, "bspline")
        result[share > largest] = number
        np.maximum(largest, share, out=largest)
    result[unlabelled] = UNLABELLED
    return result


def _spread(components: NDArray[np.int32], foreground: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Numbers on the foreground and nowhere else; where one is missing, the nearest one's."""
    from scipy import ndimage

    if components.any():
        nearest = ndimage.distance_transform_edt(
            components == 0, return_distances=False, return_indices=True
        )
        components = components[tuple(nearest)]
    return np.where(foreground, components, 0).astype(np.int32)


def _store(arrays: PreparedArrays, folder: Path) -> None:
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for outdated in folder.glob("weight-*.b2nd"):
            outdated.unlink()
    for name in ("image", "label", "components"):
        _write_chunked(getattr(arrays, name), folder / f"{name}.b2nd", arrays.label.ndim)
    with atomic_path(folder / "places.npz") as path:
        places: dict[str, Any] = _places(arrays)
        np.savez(path, **places)


def _write_chunked(array: NDArray[Any], target: Path, axes: int) -> None:
    leading = array.ndim - axes
    with atomic_path(target) as path:
        try:
            _blosc2().asarray(
                array,
                urlpath=str(path),
                mode="w",
                chunks=[1] * leading + [min(_CHUNK_VOXELS, n) for n in array.shape[leading:]],
                blocks=[1] * leading + [min(_BLOCK_VOXELS, n) for n in array.shape[leading:]],
            )
        except RuntimeError as error:
            raise OutputError(
                "output-not-writable",
                f"The prepared case {target} cannot be written.",
                "Check the space left on the disk and that you may write into the folder.",
            ) from error


def _places(arrays: PreparedArrays) -> dict[str, Any]:
    """See :attr:`PreparedCase.places`; the same for the same case."""
    draw = np.random.default_rng(arrays.label.size)
    label = arrays.label.ravel()
    foreground = (label != BACKGROUND) & (label != UNLABELLED)
    chosen = {
        "foreground": _some(np.where(foreground, label, 0), _PLACES_A_CLASS, draw),
        "instance": _some(
            np.where(foreground, arrays.components.ravel(), 0), _PLACES_A_COMPONENT, draw
        ),
        "annotated": _some(_annotated(label, foreground), _PLACES_A_CLASS, draw),
    }
    places = {}
    for kind, (which, index) in chosen.items():
        where = np.stack(np.unravel_index(index, arrays.label.shape), axis=1)
        number = which - 1 if kind == "annotated" else which
        places[kind] = np.concatenate([number[:, None], where], axis=1).astype(np.int32)
    return places


def _annotated(label: NDArray[np.uint8], foreground: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Classes counted from 1, so that background is one like the others; 0 where unlabelled.

    Of a large case only every n-th background voxel: sorting all would take gigabytes.
    """
    step = -(-np.count_nonzero(label == BACKGROUND) // _MOST_BACKGROUND_VOXELS) or 1
    groups = np.where(foreground, label.astype(np.uint16) + 1, 0).astype(np.uint16)
    groups[::step] += label[::step] == BACKGROUND
    return groups


def _some(
    groups: NDArray[Any], most: int, draw: np.random.Generator
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """At most so many random members of every group above 0: their groups and their indices."""
    members = draw.permutation(np.flatnonzero(groups))
    members = members[np.argsort(groups[members], kind="stable")]
    which = groups[members]
    first = np.searchsorted(which, which, side="left")
    kept = np.arange(len(which)) - first < most
    return which[kept], members[kept]


def _complete(folder: Path, case: TrainingCase) -> tuple[int, ...] | None:
    """Shape of a case that was prepared from these very files; None otherwise."""
    try:
        found = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        shape = tuple(int(n) for n in found["shape"])
        same = found["sources"] == _stamps(case)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return shape if same else None


def _stamps(case: TrainingCase) -> list[list[Any]]:
    """Name, size and time of change of every file of a case."""
    files = [path for path in (*case.images, case.label) if path is not None]
    states = [(path, path.stat()) for path in files]
    stamps = [[case_title(str(path)), s.st_size, s.st_mtime_ns] for path, s in states]
    # Whether anything is shown decides what the prepared label holds.
    return stamps if case.shows is None else [*stamps, ["shows", bool(case.shows)]]


def _digest(plan: Plan) -> str:
    facts = [_FORMAT, plan.model_dump(mode="json", include=_PREPARED_BY)]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()


def _slug(name: str) -> str:
    """A name that any file system takes and that no other name gives."""
    plain = re.sub(r"[^A-Za-z0-9.-]", "_", name)[:80].strip(".") or "_"
    if plain == name:
        return plain
    return f"{plain}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


def require_storage() -> None:
    """Find out before long work whether cases can be stored.

    Raises:
        DependencyError: blosc2 is not installed.
    """
    _blosc2()


def _blosc2() -> Any:
    try:
        import blosc2
    except ImportError as error:
        raise DependencyError(
            "blosc2-missing",
            "Prepared cases are stored with blosc2, which is not installed.",
            'Run: pip install "imbalanceseg[train]"',
        ) from error
    return blosc2
