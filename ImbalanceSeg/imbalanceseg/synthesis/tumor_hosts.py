"""Real scans that tumours are implanted into: where their brain lies, and how bright it is.

The masks need not follow the brain to the voxel. They keep implants off skull, ventricles and what
the scan already shows, so each errs to the safe side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from torch import Tensor

from imbalanceseg.geometry import Grid
from imbalanceseg.io import read_image
from imbalanceseg.synthesis.brain_mr import Contrast
from imbalanceseg.synthesis.shapes import Point

_BORDER_VOXELS = 4
_DEEP_MM = -10.0
_FAR_MM = 200.0
_ALONG_THE_PATIENT = (1, 0, 0, 0, 1, 0, 0, 0, 1)
# Where MNI space has the internal auditory canal of the left side: its mouth, and its blind end.
_CANAL_IN_MNI = ((17.0, 36.0, -33.0), (27.0, 35.0, -33.0))


@dataclass(frozen=True)
class Terrain:
    """What all scans of one patient on one grid share. Tensors ``[D, H, W]``, mm, negative inside.

    Attributes:
        grid: LPS grid of the tensors, axes along the patient's.
        brain_mm: distance to the surface of the brain.
        ventricle_mm: distance to the ventricles.
        unlabelled_mm: distance to what may be disease of the patient's own.
        skull: whether the scans show more than the brain.
        canal: mouth and end of the left internal auditory canal where they are known, in LPS mm.
    """

    grid: Grid
    brain_mm: Tensor
    ventricle_mm: Tensor
    unlabelled_mm: Tensor
    skull: bool
    canal: tuple[Point, Point] | None = None

    def mirrored(self) -> Terrain:
        """Left and right exchanged; the grid stays, so it is another patient's place."""
        return replace(
            self,
            brain_mm=self.brain_mm.flip(2),
            ventricle_mm=self.ventricle_mm.flip(2),
            unlabelled_mm=self.unlabelled_mm.flip(2),
        )


@dataclass(frozen=True)
class Host:
    """One real scan.

    Attributes:
        name: of the set, and of the scan's contrast.
        contrast: whose recipe a tumour in it follows.
        image: float32 ``[D, H, W]`` on the grid of the terrain; 0 outside the brain where the
            terrain has no skull.
        white: level of white matter.
        csf: level of CSF.
        terrain: where things lie.
    """

    name: str
    contrast: Contrast
    image: Tensor
    white: float
    csf: float
    terrain: Terrain

    def mirrored(self) -> Host:
        """Left and right exchanged."""
        return replace(self, image=self.image.flip(2), terrain=self.terrain.mirrored())


def read_head(folder: Path) -> list[Host]:
    """A T1 of a whole head, as DICOM. Empty where the folder is missing."""
    if not folder.is_dir():
        return []
    image = sitk.DICOMOrient(sitk.Cast(read_image(folder), sitk.sitkFloat32), "LPS")
    brain = _brain_of_t1(image)
    return _hosts(folder.name, {"T1": image}, brain, None, skull=True)


def read_metastases(folder: Path) -> list[Host]:
    """Brain-extracted scans of a patient whose own metastases nobody has outlined."""
    scans = _read(folder, {"T1c": "t1c", "T2": "t2", "FLAIR": "flair"})
    if len(scans) < 3:
        return []
    brain = _values(scans["T1c"]) > 0
    return _hosts(folder.name, scans, brain, _abnormal(scans, brain), skull=False)


def read_mni(folder: Path, patient: str) -> list[Host]:
    """Brain-extracted scans in MNI space. Lesions of multiple sclerosis count as healthy here."""
    names = {"T1c": f"{patient}_t1post", "T2": f"{patient}_t2", "FLAIR": f"{patient}_flair"}
    scans = _read(folder, names)
    if not scans:
        return []
    # Outside the brain these hold exactly 0, inside some values are negative.
    brain = np.logical_and.reduce([_values(scan) != 0 for scan in scans.values()])
    name = f"{folder.name} {patient}"
    return _hosts(name, scans, brain, None, skull=False, canal=_CANAL_IN_MNI)


def _read(folder: Path, names: dict[str, str]) -> dict[str, sitk.Image]:
    found = {contrast: folder / f"{name}.nii.gz" for contrast, name in names.items()}
    return {
        contrast: sitk.DICOMOrient(sitk.Cast(read_image(path), sitk.sitkFloat32), "LPS")
        for contrast, path in found.items()
        if path.is_file()
    }


def _values(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def _hosts(
    name: str,
    scans: dict[str, sitk.Image],
    brain: np.ndarray,
    abnormal: np.ndarray | None,
    skull: bool,
    canal: tuple[Point, Point] | None = None,
) -> list[Host]:
    # A host lends its texture only: where a tilted scan lies in the scanner does not matter.
    whole = replace(Grid.of(next(iter(scans.values()))), direction=_ALONG_THE_PATIENT)
    box = tuple(slice(0, n) for n in brain.shape) if skull else _around(brain)
    grid = whole.cropped([b.start for b in box[::-1]], [b.stop - b.start for b in box[::-1]])
    inside = brain[box]
    brain_mm = _distance(_filled(inside), grid)
    volumes = {c: _values(scan)[box] * (1.0 if skull else inside) for c, scan in scans.items()}
    first = next(iter(volumes))
    levels = {c: _levels(values, brain_mm, c) for c, values in volumes.items()}
    terrain = Terrain(
        grid=grid,
        brain_mm=torch.from_numpy(brain_mm),
        ventricle_mm=torch.from_numpy(
            _distance(_ventricles(volumes[first], brain_mm, *levels[first]), grid)
        ),
        unlabelled_mm=torch.from_numpy(
            _distance(np.zeros_like(inside) if abnormal is None else abnormal[box], grid)
        ),
        skull=skull,
        canal=canal,
    )
    return [
        Host(
            f"{name} {c}",
            "T1c" if c == "T1" else c,  # type: ignore[arg-type]
            torch.from_numpy(np.ascontiguousarray(values.clip(min=0), np.float32)),
            *levels[c],
            terrain,
        )
        for c, values in volumes.items()
    ]


def _around(mask: np.ndarray) -> tuple[slice, ...]:
    found = [np.nonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))[0] for axis in range(3)]
    return tuple(
        slice(max(0, int(f[0]) - _BORDER_VOXELS), min(n, int(f[-1]) + 1 + _BORDER_VOXELS))
        for f, n in zip(found, mask.shape, strict=True)
    )


def _distance(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """Signed distance in mm, float32, negative inside; far away everywhere from an empty mask.

    Measured on every second voxel along each axis and interpolated: eight times as fast.
    """
    from scipy.ndimage import distance_transform_edt

    coarse = mask[::2, ::2, ::2]
    if not coarse.any():
        return np.full(mask.shape, _FAR_MM, np.float32)
    spacing = [2 * s for s in grid.spacing_mm[::-1]]
    signed = distance_transform_edt(~coarse, sampling=spacing)
    signed -= distance_transform_edt(coarse, sampling=spacing)
    between = F.interpolate(
        torch.from_numpy(signed.astype(np.float32))[None, None],
        size=[2 * n - 1 for n in coarse.shape],
        mode="trilinear",
        align_corners=True,
    )[0, 0].numpy()
    missing = [(0, n - m) for n, m in zip(mask.shape, between.shape, strict=True)]
    return np.pad(between, missing, mode="edge")


def _filled(mask: np.ndarray) -> np.ndarray:
    """Without what it surrounds on all sides."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    return sitk.GetArrayFromImage(sitk.BinaryFillhole(image)) > 0


def _levels(values: np.ndarray, brain_mm: np.ndarray, contrast: str) -> tuple[float, float]:
    """White matter and CSF, from shares of the deep brain that each is known to take."""
    deep = values[brain_mm < _DEEP_MM]
    white, csf = {"T2": (30, 98.5), "FLAIR": (40, 1.5)}.get(contrast, (65, 1.5))
    return float(np.percentile(deep, white)), float(np.percentile(deep, csf))


def _ventricles(values: np.ndarray, brain_mm: np.ndarray, white: float, csf: float) -> np.ndarray:
    """Deep voxels nearer to CSF than to white matter, without what is thin."""
    from scipy.ndimage import binary_opening

    like_csf = (values - white) / (csf - white) > 0.6
    return binary_opening(like_csf & (brain_mm < _DEEP_MM), iterations=1)


def _abnormal(scans: dict[str, sitk.Image], brain: np.ndarray) -> np.ndarray:
    """Oedema and enhancing bodies of a patient, with a wide margin."""
    import cc3d
    from scipy.ndimage import binary_opening, gaussian_filter

    grid = Grid.of(scans["FLAIR"])
    brain_mm = _distance(brain, grid)
    flair, enhanced = (_values(scans[c]) for c in ("FLAIR", "T1c"))
    bright = gaussian_filter(flair, 1.5) > 1.3 * np.median(flair[brain_mm < _DEEP_MM])
    oedema = binary_opening(bright & (brain_mm < -2), iterations=2)
    white = np.percentile(enhanced[brain_mm < _DEEP_MM], 65)
    # Vessels are as bright, but thin; sinuses lie at the border.
    bodies = binary_opening((enhanced > 1.4 * white) & (brain_mm < -4), iterations=2)
    oedema = cc3d.dust(oedema.astype(np.uint8), threshold=1500, connectivity=6) > 0
    bodies = cc3d.dust(bodies.astype(np.uint8), threshold=150, connectivity=6) > 0
    # What oedema surrounds, such as a cyst, belongs to it: close over it, then leave a margin.
    closed = _filled(_distance(oedema | bodies, grid) < 24)
    return np.asarray((_distance(closed, grid) < -14) & brain)


def _brain_of_t1(image: sitk.Image) -> np.ndarray:
    """The brain in a T1 of a head: bright tissue that a dark skull sets apart from the scalp."""
    import cc3d

    grid = Grid.of(image)
    tissue = _values(sitk.OtsuThreshold(image, 0, 1)) > 0
    core = _distance(tissue, grid) < -5.5
    largest = cc3d.largest_k(core.astype(np.uint8), k=1, connectivity=6) > 0
    # Ventricles and sulci are as dark as bone; what the brain surrounds is closed over.
    closed = _distance(largest, grid) < 13
    return np.asarray(_distance(closed, grid) < -9)
