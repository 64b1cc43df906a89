"""Cases for the training of the lesion model: real lesion shapes in real brains, and phantoms.

Real scans and masks are those of Lesjak et al., Neuroinformatics 2017 (doi
10.1007/s12021-017-9348-7, CC BY), a glioma and a metastasis patient of BrainLesion. Patient 07 is
left out altogether, its mask too: it judges the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import read_image
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.synthesis.lesions import implant_lesions, lesion_phantom

Mask = NDArray[np.bool_]

_JUDGE = 7
_REAL = 19
_VALIDATION_MASKS = (27, 28, 29, 30)
_PROCEDURAL = 0.4
"""Share of phantoms where there are real hosts; without, all are."""
_REAL_ALONE = 0.08
_DIFFICULTY = (0.2, 0.8)
_SHIFT_MM = 4.0
_ZOOM = (0.9, 1.1)
_CORTEX_MM = 5
_UNTOUCHED_MM = 2
_ODD_SIGNAL = 1.35
_ODD_VOXELS = 200
_ODD_CLOSING_MM = 12
_ODD_MARGIN_MM = 4
_PHANTOM_SEEDS = 1_000_000


@dataclass(frozen=True, eq=False)
class LesionHost:
    """A real FLAIR that lends its texture.

    Attributes:
        name: for people.
        image: brain-extracted, 1 mm.
        label: uint8 on its grid: 1 its own lesions, 255 what is abnormal and labelled by nobody.
        free: where lesions can be implanted.
        box_mm: LPS corners of its brain, ``[2, 3]``, lowest coordinates first.
    """

    name: str
    image: sitk.Image
    label: NDArray[np.uint8]
    free: Mask
    box_mm: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LesionSources:
    """Real scans and real lesion shapes.

    Attributes:
        training: hosts that are learned from.
        validation: hosts that are judged on.
        masks: lesion masks by patient, on the grid of the first training host.
    """

    training: Sequence[LesionHost] = ()
    validation: Sequence[LesionHost] = ()
    masks: dict[int, sitk.Image] = field(default_factory=dict)

    @classmethod
    def read(cls, data: Path | None) -> LesionSources:
        """Read what lies in a folder with the sets ``ms_lesions_mni`` and those of tumours.

        Args:
            data: the folder; where it is None, or has no lesion masks, there are phantoms only.
        """
        folder = None if data is None else data / "ms_lesions_mni"
        if folder is None or not folder.is_dir():
            return cls()
        assert data is not None
        masks = {
            int(path.name[7:9]): read_image(path)
            for path in sorted(folder.glob("patient*_lesions.nii.gz"))
            if int(path.name[7:9]) != _JUDGE
        }
        training = [_patient(folder, masks)]
        glioma = data / "tumour_glioma"
        if glioma.is_dir():
            tumor = sitk.GetArrayFromImage(read_image(glioma / "seg_fusion_mav.nii.gz")) > 0
            image = read_image(glioma / "bet_fla.nii.gz")
            training.append(_unlabelled("glioma", image, _grown(tumor, _ODD_MARGIN_MM)))
        metastases = data / "tumour_mets_aurora" / "flair.nii.gz"
        validation = []
        if metastases.is_file():
            image = read_image(metastases)
            validation.append(_unlabelled("metastases", image, _odd(image)))
        return cls(training, validation, masks)


def lesion_case(
    seed: int, sources: LesionSources, validation: bool = False
) -> tuple[sitk.Image, sitk.Image, str]:
    """A FLAIR with many lesions.

    Real lesion shapes of another patient, mirrored, shifted, magnified and thinned out at random,
    are implanted in a real scan; or the brain is procedural.

    Args:
        seed: same seed and sources, same case.
        sources: see :class:`LesionSources`.
        validation: made of scans, masks and seeds that training never sees.

    Returns:
        The image, its uint8 label (1 lesion, 255 unlabelled), and what it is made of.
    """
    rng = np.random.default_rng([seed, validation])
    hosts = sources.validation if validation else sources.training
    difficulty = float(rng.uniform(*_DIFFICULTY))
    if not hosts or not sources.masks or rng.random() < _PROCEDURAL:
        number = seed + _PHANTOM_SEEDS * (1 + validation)
        image, label = lesion_phantom(number, difficulty=0.75 * difficulty)
        return image, label, "phantom"
    host = hosts[int(rng.integers(len(hosts)))]
    own = 1 in host.label
    if own and rng.random() < _REAL_ALONE / (1 - _PROCEDURAL):
        return host.image, image_from_array(host.label, Grid.of(host.image)), host.name
    wanted = [n for n in sources.masks if n != _REAL and (n in _VALIDATION_MASKS) == validation]
    patient = int(rng.choice(wanted))
    shapes = _thinned(_laid_on(sources.masks[patient], sources.training[0], host, rng), rng)
    free = image_from_array(host.free.astype(np.uint8), Grid.of(host.image))
    try:
        image, added = implant_lesions(
            host.image, free, shapes, int(rng.integers(2**31)), "FLAIR", difficulty
        )
    except InputError as error:
        if error.code != "no-lesion-in-host":
            raise
        return host.image, image_from_array(host.label, Grid.of(host.image)), host.name
    label = np.where(sitk.GetArrayViewFromImage(added) > 0, 1, host.label).astype(np.uint8)
    about = f"lesions of patient {patient:02d} in {host.name}"
    return image, image_from_array(label, Grid.of(host.image)), about


def _patient(folder: Path, masks: dict[int, sitk.Image]) -> LesionHost:
    image = read_image(folder / f"patient{_REAL}_flair.nii.gz")
    lesions = sitk.GetArrayFromImage(masks[_REAL]) > 0
    label, taken = lesions.astype(np.uint8), _grown(lesions, _UNTOUCHED_MM)
    return _host(f"patient {_REAL}", image, label, taken)


def _unlabelled(name: str, image: sitk.Image, odd: Mask) -> LesionHost:
    return _host(name, image, np.where(odd, UNLABELLED, 0).astype(np.uint8), odd)


def _host(name: str, image: sitk.Image, label: NDArray[np.uint8], taken: Mask) -> LesionHost:
    brain = _brain(sitk.GetArrayFromImage(image))
    voxels = np.argwhere(brain)[:, ::-1]
    ends = Grid.of(image).index_to_physical(np.stack([voxels.min(0), voxels.max(0)]))
    free = _eroded(brain, _CORTEX_MM) & ~taken
    return LesionHost(name, image, label, free, np.sort(ends, axis=0))


def _odd(image: sitk.Image) -> Mask:
    """What is bright in FLAIR over more than a spot: oedema and tumour that nobody has labelled."""
    import cc3d
    from scipy.ndimage import binary_closing, binary_fill_holes

    values = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image, 1.5))
    brain = _brain(sitk.GetArrayFromImage(image))
    bright = brain & (values > _ODD_SIGNAL * np.median(values[brain]))
    found = cc3d.dust(bright.astype(np.uint8), threshold=_ODD_VOXELS, connectivity=6) > 0
    # Oedema lies around the tumour like a cup.
    whole = binary_fill_holes(binary_closing(found, iterations=_ODD_CLOSING_MM))
    return _grown(whole, _ODD_MARGIN_MM)


def _brain(values: NDArray[np.float32]) -> Mask:
    """Brain-extracted scans are 0 around it, or nearly so where they were resampled."""
    from scipy.ndimage import binary_fill_holes

    filled: Mask = binary_fill_holes(values > 0.02 * np.percentile(values, 99))
    return filled


def _eroded(mask: Mask, voxels: int) -> Mask:
    from scipy.ndimage import binary_erosion

    smaller: Mask = binary_erosion(mask, iterations=voxels)
    return smaller


def _grown(mask: Mask, voxels: int) -> Mask:
    from scipy.ndimage import binary_dilation

    larger: Mask = binary_dilation(mask, iterations=voxels)
    return larger


def _laid_on(
    mask: sitk.Image, drawn_in: LesionHost, host: LesionHost, rng: np.random.Generator
) -> sitk.Image:
    """Lesions drawn in one brain on another's grid: box on box of the brains, and a little off.

    In all of these scans the axes run along left, posterior and superior, up to sign.
    """
    low, high = host.box_mm
    extent = drawn_in.box_mm[1] - drawn_in.box_mm[0]
    scale = (high - low) / extent * rng.uniform(*_ZOOM, 3)
    side = np.array([rng.choice([-1.0, 1.0]), 1.0, 1.0])
    middle = (high + low) / 2 + rng.uniform(-_SHIFT_MM, _SHIFT_MM, 3)
    back = sitk.AffineTransform(3)
    back.SetMatrix(np.diag(side / scale).flatten().tolist())
    back.SetTranslation((drawn_in.box_mm.mean(0) - side / scale * middle).tolist())
    return sitk.Resample(mask, host.image, back, sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)


def _thinned(shapes: sitk.Image, rng: np.random.Generator) -> sitk.Image:
    """Some of the lesions: few patients have as many, and large ones as often, as these."""
    import cc3d

    found = cc3d.connected_components(
        (sitk.GetArrayFromImage(shapes) > 0).astype(np.uint8), connectivity=26
    )
    kept = rng.random(int(found.max()) + 1) < rng.uniform(0.3, 1.0)
    if rng.random() < 0.5:
        kept &= np.bincount(found.ravel(), minlength=len(kept)) < np.exp(rng.uniform(4, 8))
    kept[0] = False
    return image_from_array(kept[found].astype(np.uint8), Grid.of(shapes))
