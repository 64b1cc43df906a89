"""The anatomy of a chest as signed distance maps, made from label maps of real patients."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, resample

FAR_MM = 12.0
"""Distances are clipped to this: nothing in the renderer depends on what lies further away."""


@dataclass(frozen=True)
class ChestAnatomy:
    """Where the structures of one chest lie. Arrays are float16 ``[Z, Y, X]`` on ``grid`` (LPS).

    Signed distances are in mm, negative inside the structure, clipped to +-``FAR_MM``.

    Attributes:
        grid: isotropic LPS grid of the arrays.
        airway_distance_mm: to the surface of the airway lumen.
        airway_radius_mm: lumen radius of the nearest airway; sets the wall's thickness.
        centerline_weight: 1 on the airway's centreline, 0 at the lumen voxel furthest from it
            (Zheng et al., IEEE TMI 40(9), 2021); 1 outside the lumen.
        solid_distance_mm: to the surface of vessels and nodules.
        lung_distance_mm: to the pleura.
        fissure_distance_mm: unsigned, to the nearest fissure.
        body_distance_mm: to the convex hull of lungs and trachea, coarse, clipped at 80 mm.
    """

    grid: Grid
    airway_distance_mm: np.ndarray
    airway_radius_mm: np.ndarray
    centerline_weight: np.ndarray
    solid_distance_mm: np.ndarray
    lung_distance_mm: np.ndarray
    fissure_distance_mm: np.ndarray
    body_distance_mm: np.ndarray

    @classmethod
    def map_names(cls) -> tuple[str, ...]:
        """Names of the arrays, in the order of :meth:`stacked`."""
        return tuple(f.name for f in fields(cls) if f.name != "grid")

    def stacked(self) -> np.ndarray:
        """All maps as one float16 array ``[7, Z, Y, X]``."""
        return np.stack([getattr(self, name) for name in self.map_names()])

    @property
    def label(self) -> np.ndarray:
        """The exact airway label, uint8 ``[Z, Y, X]``."""
        return (self.airway_distance_mm < 0).astype(np.uint8)


def anatomy_from_masks(folder: Path, patient: int, spacing_mm: float = 0.8) -> ChestAnatomy:
    """Anatomy of one patient of the Med-MPD label maps (LIDC-IDRI patients, CC BY 3.0).

    Distances are computed on the labels' own grid and sampled afterwards, so that bronchi thinner
    than ``spacing_mm`` keep their place and width.

    Args:
        folder: holds ``patient<N>_bronchial_tree.nii.gz`` and its companions.
        patient: number in the file names.
        spacing_mm: isotropic spacing of the result.

    Raises:
        InputError: a label map is missing.
    """
    tree = _read_label(folder, patient, "bronchial_tree")
    grid = Grid.of(tree).oriented_lps().with_spacing((spacing_mm,) * 3)
    solid = _read_label(folder, patient, "vessels") | _on(
        Grid.of(tree), _read_label(folder, patient, "nodule")
    )
    lungs = sitk.BinaryMorphologicalClosing(
        _read_label(folder, patient, "pleural_boundary"), (2,) * 3
    )
    fissures = _on(Grid.of(tree), _read_label(folder, patient, "fissures"))
    radius, weight = _radius_and_centerline_weight(tree)
    lung_distance = _sampled(_signed_distance(lungs), grid)
    airway_distance = _sampled(_signed_distance(tree), grid)
    return ChestAnatomy(
        grid=grid,
        airway_distance_mm=airway_distance,
        airway_radius_mm=_sampled(radius, grid),
        centerline_weight=_sampled(weight, grid, outside=1.0),
        solid_distance_mm=_sampled(_signed_distance(solid), grid),
        lung_distance_mm=lung_distance,
        fissure_distance_mm=np.maximum(_sampled(_signed_distance(fissures), grid), 0),
        body_distance_mm=hull_distance((lung_distance < 0) | (airway_distance < 0), spacing_mm),
    )


def signed_distance(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Signed distance in mm to the border between voxels, negative inside, clipped to +-FAR_MM.

    Args:
        mask: bool ``[Z, Y, X]``.
        spacing_mm: (z, y, x).
    """
    import edt

    half = 0.5 * min(spacing_mm)
    outside = edt.edt(~mask, anisotropy=spacing_mm, parallel=2)
    inside = edt.edt(mask, anisotropy=spacing_mm, parallel=2)
    distance = np.where(mask, half - inside, outside - half)
    return np.clip(distance, -FAR_MM, FAR_MM).astype(np.float32)


def hull_distance(mask: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Distance in mm to the slice-wise convex hull of ``mask``, computed at about 4 mm.

    Args:
        mask: bool ``[Z, Y, X]``, isotropic voxels.
        spacing_mm: voxel size.

    Returns:
        float16 ``[Z, Y, X]``, negative inside, clipped to [-80, 80].
    """
    import edt
    from scipy.ndimage import zoom
    from skimage.morphology import convex_hull_image

    step = max(1, round(4.0 / spacing_mm))
    coarse = mask[::step, ::step, ::step]
    hull = np.stack([convex_hull_image(s) if s.any() else s for s in coarse])
    size = step * spacing_mm
    distance = np.where(hull, -edt.edt(hull), edt.edt(~hull)) * size
    factors = [n / c for n, c in zip(mask.shape, coarse.shape, strict=True)]
    fine = zoom(distance.astype(np.float32), factors, order=1, grid_mode=True, mode="nearest")
    return np.clip(fine, -80, 80).astype(np.float16)


def _read_label(folder: Path, patient: int, name: str) -> sitk.Image:
    path = Path(folder) / f"patient{patient}_{name}.nii.gz"
    if not path.is_file():
        raise InputError(
            "label-map-missing",
            f"The label map {path.name} is not in {folder}.",
            "Point to the folder of the Med-MPD masks.",
        )
    return sitk.ReadImage(str(path)) > 0


def _on(grid: Grid, label: sitk.Image) -> sitk.Image:
    return resample(label, grid, "nearest")


def _signed_distance(label: sitk.Image) -> sitk.Image:
    mask = sitk.GetArrayViewFromImage(label).astype(bool)
    distance = signed_distance(mask, label.GetSpacing()[::-1])
    return _like(label, distance)


def _sampled(image: sitk.Image, grid: Grid, outside: float = FAR_MM) -> np.ndarray:
    return sitk.GetArrayFromImage(resample(image, grid, "linear", outside)).astype(np.float16)


def _like(reference: sitk.Image, array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(reference)
    return image


def _radius_and_centerline_weight(tree: sitk.Image) -> tuple[sitk.Image, sitk.Image]:
    """Radius of the nearest centreline voxel around the tree, and the distance weight in it."""
    import edt
    from scipy.ndimage import distance_transform_edt
    from skimage.morphology import skeletonize

    mask = sitk.GetArrayViewFromImage(tree).astype(bool)
    spacing = tree.GetSpacing()[::-1]
    margin = [int(np.ceil(4.0 / s)) for s in spacing]
    where = np.argwhere(mask)
    box = tuple(
        slice(max(0, lo - m), hi + m + 1)
        for lo, hi, m in zip(where.min(0), where.max(0), margin, strict=True)
    )
    local = mask[box]
    centerline = skeletonize(local)
    to_line, nearest = distance_transform_edt(~centerline, spacing, return_indices=True)
    inside = edt.edt(local, anisotropy=spacing, parallel=2)
    radius = np.full(mask.shape, 1.0, np.float32)
    radius[box] = inside[tuple(nearest)]
    weight = np.ones(mask.shape, np.float32)
    furthest = to_line[local].max()
    weight[box] = np.where(local, 1.0 - np.sqrt(np.minimum(to_line / furthest, 1.0)), 1.0)
    return _like(tree, radius), _like(tree, weight)
