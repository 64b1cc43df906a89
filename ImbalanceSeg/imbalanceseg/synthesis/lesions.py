"""Many small bright lesions in MR: phantoms, and real masks implanted into real images.

How many lesions there are and how large they are follows the consensus masks of 29 patients with
multiple sclerosis (Lesjak et al., Neuroinformatics 2017, doi 10.1007/s12021-017-9348-7; 1 mm, MNI
space). Measured there, counting 26-connected components:

- 3,096 lesions, 17 to 392 a patient, median 82; the logarithm of the number has mean 4.284 and
  standard deviation 0.908.
- Volumes in mm^3 at the quantiles 5, 10, 25, 50, 75, 90, 95, 99 %: 1, 2, 6, 17, 46, 122, 253,
  2,134; the largest 46,870. The logarithm has mean 2.882 and standard deviation 1.616.
- One in a hundred lesions holds 66 % of the volume: the tail is heavier than that of one log-normal
  distribution, whose 99 % quantile would be 765 mm^3. Two of them, fitted by expectation
  maximisation, give 1.5, 2.5, 6, 17, 46, 125, 254, 2,135: focal lesions, and 3.6 % that have grown
  together along the ventricles.
- Number and mean size of the lesions of a patient are not correlated (r = 0.02 above 3 mm^3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import SimpleITK as sitk
import torch

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array, require_same_grid
from imbalanceseg.synthesis.brain import BrainAnatomy, grow_brain, noise_in_mm
from imbalanceseg.synthesis.brain_mr import (
    head_grid,
    mr_style,
    paint_tissues,
    require_one_of,
    scanned,
)
from imbalanceseg.synthesis.difficulty import DEFAULT_DIFFICULTY, between, require_difficulty
from imbalanceseg.synthesis.fields import blur
from imbalanceseg.synthesis.lesion_growth import grow_lesions
from imbalanceseg.synthesis.shapes import filled

LOG_COUNT = (4.284, 0.908)
"""Mean and standard deviation of the logarithm of the number of lesions a patient."""
FOCAL_LOG_VOLUME = (2.746, 1.436)
"""The same of the volume in mm^3 of focal lesions."""
CONFLUENT_LOG_VOLUME = (6.503, 1.903)
"""The same of lesions that have grown together."""
CONFLUENT_SHARE = 0.0363
LARGEST_MM3 = 47_000.0

LesionContrast = Literal["FLAIR", "T2"]

_EXTENT_MM = (144.0, 176.0, 144.0)
_CENTRE_MM = (0.0, 15.5, 8.0)
_UNITS = 100.0


def draw_lesion_volumes(rng: np.random.Generator, count: int | None = None) -> np.ndarray:
    """Volumes in mm^3 of the lesions of one patient, largest first.

    Args:
        rng: source of chance.
        count: number of lesions; drawn as well when None.
    """
    if count is None:
        count = int(np.clip(round(np.exp(rng.normal(*LOG_COUNT))), 10, 400))
    focal = rng.normal(*FOCAL_LOG_VOLUME, count)
    confluent = rng.normal(*CONFLUENT_LOG_VOLUME, count)
    volumes = np.exp(np.where(rng.random(count) < CONFLUENT_SHARE, confluent, focal))
    return np.sort(np.clip(volumes, 1.0, LARGEST_MM3))[::-1]


def lesion_phantom(
    seed: int,
    spacing_mm: float = 1.0,
    shape: Sequence[int] | None = None,
    difficulty: float = DEFAULT_DIFFICULTY,
    count: int | None = None,
    brain_only: bool = True,
) -> tuple[sitk.Image, sitk.Image]:
    """A FLAIR of a brain that never existed, with lesions, and their exact label.

    Args:
        seed: same seed and grid, same phantom.
        spacing_mm: isotropic voxel size.
        shape: voxels ``[Z, Y, X]``; enough for the whole brain when None.
        difficulty: 0 is plainly visible, 1 barely: contrast falls, noise and blur grow, and flow in
            the CSF, bright ventricle borders and bright spots of cortex appear. Number and size of
            the lesions do not depend on it.
        count: number of lesions; drawn from the distribution of real ones when None. Lesions for
            which there is no room are left out.
        brain_only: skull and skin removed, as the real images with these lesions come.

    Returns:
        float32 image in arbitrary units and uint8 label (1 lesion), on one LPS grid. Lesions do not
        touch each other, so the components of the label are the lesions that were drawn.

    Raises:
        InputError: difficulty, spacing, shape or count is unusable.
    """
    difficulty = require_difficulty(difficulty)
    if count is not None and count < 1:
        raise InputError(
            "count-invalid", f"{count} lesions cannot be made.", "Ask for one lesion or more."
        )
    grid = head_grid((spacing_mm,) * 3, shape, _EXTENT_MM, _CENTRE_MM)
    rng = np.random.default_rng([seed, 2])
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    brain = grow_brain(grid, int(rng.integers(2**31)), float(rng.uniform(0.88, 0.94)))
    instances = grow_lesions(brain, draw_lesion_volumes(rng, count), rng, generator)
    style = mr_style(difficulty, rng)
    image = paint_tissues(brain, "FLAIR", rng, style)
    image = image + _mimics(brain, difficulty, generator)
    border = between(0.35, 0.9, difficulty) / spacing_mm
    rise = _rise(instances, (border,) * 3, rng) * between(0.62, 0.13, difficulty)
    rise = rise * (1 + 0.12 * noise_in_mm(rise.shape, (spacing_mm,) * 3, 6.0, generator))
    scan = scanned(image + rise, grid, 1, style, generator) * _UNITS
    if brain_only:
        scan = scan * (brain.cavity_distance_mm < -1.5)
    label = (instances > 0).astype(np.uint8)
    return image_from_array(scan.numpy(), grid), image_from_array(label, grid)


def implant_lesions(
    image: sitk.Image,
    host: sitk.Image,
    lesions: sitk.Image,
    seed: int,
    contrast: LesionContrast = "FLAIR",
    difficulty: float = DEFAULT_DIFFICULTY,
) -> tuple[sitk.Image, sitk.Image]:
    """Real lesion shapes in a real image, or in a phantom: new cases from old masks.

    Every lesion raises the signal by its own amount with a soft border. Voxels further from a
    lesion than that border, or outside ``host``, keep their value exactly. Parts of a lesion
    outside ``host``, or on its CSF (told by the signal), are dropped from image and label.

    Args:
        image: scalar MR of any pixel type.
        host: mask on the same grid of where lesions can lie: the brain, better its white matter,
            without the lesions that the image already has.
        lesions: mask on the same grid, for example of another patient in the same space.
        seed: same seed, same brightness of each lesion.
        contrast: what ``image`` is; lesions are bright in both.
        difficulty: 0 raises lesions far above the brain with crisp borders, 1 barely. Noise is that
            of the image.

    Returns:
        Image in the pixel type of ``image``, and uint8 label of what was implanted, both on the
        grid of ``image``.

    Raises:
        GeometryError: the three images do not lie on one grid.
        InputError: the host is empty, no lesion lies in it, or contrast or difficulty is unusable.
    """
    import cc3d

    difficulty = require_difficulty(difficulty)
    require_one_of("contrast", contrast, tuple(_CSF_OF_MEDIAN))
    require_same_grid(image, host, ("image", "host mask"))
    require_same_grid(image, lesions, ("image", "lesion mask"))
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    allowed = sitk.GetArrayFromImage(host) > 0
    if not allowed.any():
        raise InputError(
            "host-empty", "The host mask is empty.", "Mark where lesions can lie, with 1."
        )
    level = float(np.median(values[allowed]))
    darkest, brightest = (level * share for share in _CSF_OF_MEDIAN[contrast])
    allowed &= (values > darkest) & (values < brightest)
    mask = (sitk.GetArrayFromImage(lesions) > 0) & allowed
    if not mask.any():
        raise InputError(
            "no-lesion-in-host",
            "None of the lesions lies in the host mask.",
            "Bring mask and image into one space first.",
        )
    instances = cc3d.connected_components(mask.astype(np.uint8), connectivity=26)
    rng = np.random.default_rng(seed)
    sigma_mm = between(0.35, 0.9, difficulty)
    sigma = [sigma_mm / s for s in image.GetSpacing()[::-1]]
    rise = _rise(instances, sigma, rng).numpy() * between(0.75, 0.16, difficulty) * level
    changed = values + np.where(allowed, rise, 0)
    made = sitk.Cast(image_from_array(changed, Grid.of(image)), sitk.sitkFloat32)
    if image.GetPixelID() != sitk.sitkFloat32:
        made = sitk.Clamp(sitk.Round(made), image.GetPixelID())
    return made, image_from_array(mask.astype(np.uint8), Grid.of(image))


# Shares of the brain's median between which a voxel is tissue, and no CSF.
_CSF_OF_MEDIAN = {"FLAIR": (0.55, np.inf), "T2": (-np.inf, 1.6)}


def _rise(
    instances: np.ndarray, sigma_voxels: Sequence[float], rng: np.random.Generator
) -> torch.Tensor:
    """How far the signal rises by lesions whose mean is 1: soft at the border, own to each."""
    own = rng.uniform(0.75, 1.25, int(instances.max()) + 1).astype(np.float32)
    own[0] = 0
    return blur(torch.from_numpy(own[instances]), sigma_voxels)


def _mimics(brain: BrainAnatomy, difficulty: float, generator: torch.Generator) -> torch.Tensor:
    """What is bright in FLAIR and no lesion; nothing at difficulty 0."""
    spacing = brain.grid.spacing_mm[::-1]
    shape = brain.brain_distance_mm.shape

    def noise(grain_mm: float) -> torch.Tensor:
        return noise_in_mm(shape, spacing, grain_mm, generator)

    flow = brain.share("csf") * torch.sigmoid(5 * (noise(16) - 1.2)) * 0.6
    rim = filled((brain.ventricle_distance_mm - 0.7).abs() - 0.7, spacing[0]) * 0.22
    spots = brain.share("grey") * torch.sigmoid(8 * (noise(5) - 1.6)) * 0.22
    return difficulty * (flow + rim * (0.6 + 0.4 * noise(10)) + spots)
