"""A real glioma in thick slices, with the label that was made for it on another grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import read_image

_NAMES = {"T1c": "t1c", "T2": "t2", "FLAIR": "fla"}
_CORE = (1, 4)
_LAYERS = 5


def read_real_glioma(folder: Path) -> list[tuple[sitk.Image, sitk.Image, str]]:
    """The scans as they came, and the tumour core of the label of the extracted brain.

    Label and extracted brain lie in the space of an atlas. Each extracted scan is brought back to
    the scan that it came from by a rigid registration, the label by the same transform. The label
    is a fusion of algorithms: silver, not gold.

    Returns:
        float32 image, uint8 label (1 tumour core) and a word on each scan that is there.
    """
    label = folder / "seg_fusion_mav.nii.gz"
    if not label.is_file():
        return []
    parts = read_image(label)
    core = sum(sitk.Cast(parts == value, sitk.sitkFloat32) for value in _CORE)
    cases = []
    for contrast, name in _NAMES.items():
        raw, extracted = folder / f"raw_{name}.nii.gz", folder / f"bet_{name}.nii.gz"
        if raw.is_file() and extracted.is_file():
            scan = sitk.Cast(read_image(raw), sitk.sitkFloat32)
            brain = sitk.Cast(read_image(extracted), sitk.sitkFloat32)
            to_atlas = _registered(brain, scan).GetInverse()
            cases.append((scan, _in_slices(core, scan, to_atlas), f"real glioma {contrast}"))
    return cases


def _registered(brain: sitk.Image, scan: sitk.Image) -> sitk.Transform:
    """The rigid transform from the space of the brain to that of the scan."""
    start = sitk.CenteredTransformInitializer(
        brain, scan, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method = sitk.ImageRegistrationMethod()
    # Several threads sum in any order, and the last digits would differ from run to run.
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(40)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.05, 7)
    method.SetMetricFixedMask(sitk.Cast(brain > 0, sitk.sitkUInt8))
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 150)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([2, 1])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=False)
    return method.Execute(brain, scan)


def _in_slices(core: sitk.Image, scan: sitk.Image, to_atlas: sitk.Transform) -> sitk.Image:
    """uint8 label of the voxels of a scan that are at least half core."""
    grid = Grid.of(scan)
    x, y, z = grid.spacing_mm
    fine = grid.with_spacing((x, y, z / _LAYERS))
    layers = sitk.GetArrayFromImage(
        sitk.Resample(
            core, fine.size, to_atlas, sitk.sitkLinear, fine.origin_mm, fine.spacing_mm,
            fine.direction, 0.0, sitk.sitkFloat32,
        )
    )  # fmt: skip
    share = layers.reshape(-1, _LAYERS, *layers.shape[1:]).mean(axis=1)
    return image_from_array((share >= 0.5).astype(np.uint8), grid)
