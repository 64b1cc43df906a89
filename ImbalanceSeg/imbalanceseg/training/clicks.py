"""A click on a missed or a wrong spot, answered at once in its surroundings.

The answer is the ``head`` depth of an adaptation in small: voxels that are like what was clicked,
in intensity and in what the network sees of them, and that hang together with it. A handful of
voxels is learned by a linear discriminant; more would be learned by heart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalanceseg.annotation.annotation import Annotation, Conflict
from imbalanceseg.annotation.on_grid import labels_on
from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.training.patient import Patient, Window

CLICK_RADIUS_MM = 1.5
_REGION_MM = 24.0
"""Half the side of the cube in which a click may change something."""
_SCALES_MM = (0.7, 1.2, 2.0)
_SHRINKAGE = 0.1
_KEPT_ROWS = 4000
_STRICTNESS = (0.0, 0.3, 0.5, 0.7)
_CACHE_SHARE = 0.5


@dataclass(frozen=True)
class Clicked:
    """What a click has changed.

    Attributes:
        labels: of the scan; a new image.
        changed_voxels: how many differ from before.
        conflict: with an earlier stroke or click, or None.
    """

    labels: sitk.Image
    changed_voxels: int
    conflict: Conflict | None


class Clicks:
    """Answers clicks on one scan; features of the whole scan are made once, where memory allows.

    Args:
        patient: the scan, and what its network says of it.
        seed: of everything random.
    """

    def __init__(self, patient: Patient, seed: int = 0) -> None:
        self._patient, self._seed = patient, seed
        self._columns: Tensor | None = None
        if patient.level_bytes(_SCALES_MM) < _CACHE_SHARE * patient.budget:
            self._columns = self._made()

    def answer(
        self,
        annotation: Annotation,
        labels: sitk.Image,
        point_mm: Sequence[float],
        label: int,
        radius_mm: float = CLICK_RADIUS_MM,
    ) -> Clicked:
        """Take a click into an annotation and change the labels around it.

        What is confirmed, and segments other than the one clicked, or clicked away, stay as they
        are.

        Args:
            annotation: of the scan; the click is added to it.
            labels: uint8, of the scan.
            point_mm: LPS.
            label: the class that is there: 1..K, or 0 for background.
            radius_mm: of the ball that is meant.

        Raises:
            InputError: ``click-outside``, ``click-label`` or ``click-radius``.
        """
        conflict = annotation.click(point_mm, label, radius_mm)
        after = sitk.GetArrayFromImage(labels)
        before = after.copy()
        grid = Grid.of(labels)
        x, y, z = (int(n) for n in np.rint(grid.physical_to_index(point_mm)))
        for strictness in _STRICTNESS:
            alike = self._alike(annotation, before, point_mm, label, strictness)
            if alike is None or self._put(after, alike, annotation, (z, y, x), label):
                break
        else:
            assert alike is not None
            self._put(after, alike, annotation, (z, y, x), label, at_most_clicked=True)
        changed = int((after != before).sum())
        return Clicked(image_from_array(after, grid), changed, conflict)

    def _put(
        self,
        after: NDArray[np.uint8],
        alike: tuple[Window, NDArray[np.bool_]],
        annotation: Annotation,
        place: tuple[int, ...],
        label: int,
        at_most_clicked: bool = False,
    ) -> bool:
        """Change what the click means, and nothing else: what is alike and hangs together.

        Returns:
            False, and nothing has changed, where that leaks out of the cube that was looked at.
        """
        window, similar = alike
        known, now = annotation.labels[window], after[window]
        clicked = now[_inner(place, window)]
        if label:
            wanted = (similar | (known == label)) & ((now == 0) | (now == label))
            wanted &= (known == label) | (known == UNLABELLED)
        else:
            wanted = (now == clicked) & (now > 0) & (similar | (known == 0))
        wanted &= ~_confirmed(annotation, window)
        inner = _inner(place, window)
        if at_most_clicked:
            wanted &= known == label
        if not wanted[inner]:
            return True
        pieces = cc3d.connected_components(wanted, connectivity=26)
        piece = pieces == pieces[inner]
        if label and not at_most_clicked and _touches_border(piece):
            return False
        now[piece] = label
        return True

    def _alike(
        self,
        annotation: Annotation,
        labels: NDArray[np.uint8],
        point_mm: Sequence[float],
        label: int,
        strictness: float,
    ) -> tuple[Window, NDArray[np.bool_]] | None:
        """Where, around a click, the scan is like what was clicked; None outside what was seen."""
        working = self._patient.working
        grid = working.grid
        centre = np.rint(grid.physical_to_index(point_mm)).astype(int)
        reach = np.ceil(_REGION_MM / np.asarray(grid.spacing_mm)).astype(int)
        start, stop = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, grid.size)
        if np.any(stop <= start):
            return None
        box = grid.cropped(start, stop - start)
        scan = annotation.grid
        said = labels_on(annotation, box)
        found = sitk.GetArrayFromImage(resample(image_from_array(labels, scan), box, "nearest"))
        spans = [slice(int(a), int(b)) for a, b in zip(start[::-1], stop[::-1], strict=True)]
        columns = self._columns_in(tuple(spans[axis] for axis in working.axes))
        back = (0, *(1 + axis for axis in np.argsort(working.axes)))
        rows = columns[0].permute(back).flatten(1).numpy().astype(np.float64)
        clicked = (said == label).ravel()
        other = (said != label) & (said != UNLABELLED)
        if label:
            rest = (said == UNLABELLED) & (found != label)
        else:
            # Against what is rightly found; where nothing is known to be, all of the piece goes.
            rest = (said != UNLABELLED) & (said != 0)
        similar = _like(rows, clicked, other.ravel(), rest.ravel(), strictness, self._seed)
        return _on_scan(similar.reshape(said.shape), box, scan)

    @torch.inference_mode()
    def _columns_in(self, window: Window) -> Tensor:
        if self._columns is None:
            return self._patient.levels(_SCALES_MM, window)
        return self._columns[(slice(None), slice(None), *window)].float()

    @torch.inference_mode()
    def _made(self) -> Tensor:
        whole = tuple(slice(0, n) for n in self._patient.volume.shape[2:])
        return self._patient.levels(_SCALES_MM, whole).half()


def _like(
    rows: NDArray[np.float64],
    clicked: NDArray[np.bool_],
    other: NDArray[np.bool_],
    rest: NDArray[np.bool_],
    strictness: float,
    seed: int,
) -> NDArray[np.bool_]:
    """Voxels nearer to what was clicked than to everything else, by linear discriminants.

    The pooled covariance comes from thousands of voxels around, so that the handful that was
    clicked cannot be learned by heart; what was clicked away weighs as much as all of the rest.

    Args:
        rows: ``[C, N]``.
        clicked: of the class, ``[N]``.
        other: clicked as something else.
        rest: what else it is told from.
        strictness: share of the way from what was clicked to the rest that is not alike any more;
            at 0 all of the half that is nearer to the click is alike.
        seed: of the sample of the rest.
    """
    if not clicked.any():
        # In a confirmed slice a click labels nothing.
        return clicked
    if not (other.any() or rest.any()):
        return np.ones(len(clicked), bool)
    draw = np.random.default_rng(seed)
    places = np.flatnonzero(rest)
    some = draw.choice(places, min(len(places), _KEPT_ROWS), replace=False)
    groups = [rows[:, part] for part in (other, some) if np.count_nonzero(part) and len(part)]
    own = rows[:, clicked]
    against = np.mean([group.mean(1) for group in groups], axis=0)
    apart = np.concatenate([g - g.mean(1, keepdims=True) for g in (own, *groups)], axis=1)
    spread = np.cov(apart, bias=True).reshape(len(rows), len(rows))
    spread += np.diag(_SHRINKAGE * np.diag(spread) + 1e-9)
    direction = np.linalg.solve(spread, own.mean(1) - against)
    place = direction @ (rows - own.mean(1)[:, None])
    half = float(direction @ (own.mean(1) - against)) / 2 * (1 - strictness)
    # On the far side, too: a vessel beside a lesion may be brighter still.
    return np.asarray(np.abs(place) < half)


def _confirmed(annotation: Annotation, window: Window) -> NDArray[np.bool_]:
    """Which voxels of a window of the scan lie in confirmed slices."""
    found = np.zeros([span.stop - span.start for span in window], bool)
    for one in annotation.confirmed:
        axis = 2 - one.axis
        at = one.index - window[axis].start
        if 0 <= at < found.shape[axis]:
            found[tuple(at if n == axis else slice(None) for n in range(3))] = True
    return found


def _touches_border(piece: NDArray[np.bool_]) -> bool:
    return any(bool(piece.take(end, axis).any()) for axis in range(3) for end in (0, -1))


def _inner(place: tuple[int, ...], window: Window) -> tuple[int, ...]:
    return tuple(
        min(max(at - span.start, 0), span.stop - span.start - 1)
        for at, span in zip(place, window, strict=True)
    )


def _on_scan(mask: NDArray[np.bool_], box: Grid, grid: Grid) -> tuple[Window, NDArray[np.bool_]]:
    """A mask of a cube on the scan's own voxels, and where these lie."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in box.size])).reshape(3, -1).T
    index = grid.physical_to_index(box.index_to_physical(corners))
    start = np.clip(np.ceil(index.min(0)), 0, grid.size).astype(int)
    stop = np.clip(np.floor(index.max(0)) + 1, 0, grid.size).astype(int)
    part = grid.cropped(start, np.maximum(stop - start, 1))
    image = resample(image_from_array(mask, box), part, "nearest")
    window = tuple(
        slice(int(a), int(a) + n) for a, n in zip(start[::-1], part.size[::-1], strict=True)
    )
    return window, sitk.GetArrayFromImage(image) > 0
