"""MONAI's own runner segments with a bundle, on the scan's grid, as the engine's path would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage

from imbalanceseg.geometry import Grid, resample
from imbalanceseg.models.bundle import Model, load_model
from imbalanceseg.models.card import NetworkSpec
from imbalanceseg.models.planned import planned_card
from imbalanceseg.models.write import write_bundle
from imbalanceseg.networks import WingsNet, create_network
from imbalanceseg.planning.imbalance import Sampling
from imbalanceseg.planning.plan import Plan
from imbalanceseg.preprocessing.intensity import Normalization

SPACING_MM = (0.8, 0.9, 1.5)


def turned_scan() -> sitk.Image:
    """A 48-voxel CT whose index axes run posterior, superior, right, obliquely."""
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.standard_normal((48, 48, 48)), 2)
    image = sitk.GetImageFromArray((-800 + 4000 * noise).astype(np.int16))
    angle = np.deg2rad(10)
    tilt = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    columns = np.array([[0, 1, 0], [0, 0, 1], [-1, 0, 0]]).T
    image.SetDirection((tilt @ columns).ravel().tolist())
    image.SetSpacing((SPACING_MM[1], SPACING_MM[2], SPACING_MM[0]))
    image.SetOrigin((12.0, -40.0, 130.0))
    return image


def probability_on_scan(model: Model, scan: sitk.Image) -> np.ndarray:
    """The engine's convention: an LPS image, its array ``[Z, Y, X]``, clipped and scaled."""
    upright = resample(scan, Grid.of(scan).oriented_lps())
    np.testing.assert_allclose(upright.GetSpacing(), SPACING_MM, atol=1e-5)
    array = sitk.GetArrayFromImage(upright).astype(np.float32)
    array = np.clip((array + 1000) / 1400, 0, 1)
    with torch.inference_mode():
        probability = torch.sigmoid(model.network(torch.from_numpy(array)[None, None]))[0, 0]
    image = sitk.GetImageFromArray(probability.numpy())
    image.CopyInformation(upright)
    return sitk.GetArrayFromImage(resample(image, Grid.of(scan)))


def run_monai(bundle: Path, images: Path, labels: Path) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += ["--config_file", "configs/inference.json", "--meta_file", "configs/metadata.json"]
    command += ["--dataset_dir", str(images), "--output_dir", str(labels)]
    paths = os.pathsep.join(str(Path(p).resolve()) for p in sys.path if p)
    done = subprocess.run(
        command,
        cwd=bundle,
        env=os.environ | {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_runner_agrees_with_the_engine(tmp_path: Path, make_card: Any, wingsnet: WingsNet) -> None:
    pytest.importorskip("fire", reason="monai[fire] is not installed")
    pytest.importorskip("ignite", reason="monai[ignite] is not installed")
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    sitk.WriteImage(turned_scan(), str(images / "scan.nii.gz"))
    scan = sitk.ReadImage(str(images / "scan.nii.gz"))
    card = make_card(spacing_mm=SPACING_MM)
    draft = write_bundle(tmp_path / "bundle", wingsnet, card)
    probability = probability_on_scan(draft, scan)
    threshold = float(np.quantile(probability, 0.9))
    card = make_card(spacing_mm=SPACING_MM, threshold=threshold, largest_component_of=(1,))
    write_bundle(tmp_path / "bundle", wingsnet, card)
    run_monai(tmp_path / "bundle", images, labels)

    result = sitk.ReadImage(str(labels / "scan_labels.nii.gz"))
    assert result.GetPixelID() == sitk.sitkUInt8
    assert Grid.of(result).same_as(Grid.of(scan), tolerance_mm=1e-2)
    found = sitk.GetArrayFromImage(result)
    assert set(np.unique(found)) == {0, 1}
    parts, _ = ndimage.label(probability >= threshold)
    expected = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    dice = 2 * np.sum(found * expected) / (found.sum() + expected.sum())
    assert dice > 0.99


@pytest.mark.slow
def test_runner_agrees_on_several_classes_and_channels(tmp_path: Path) -> None:
    pytest.importorskip("fire", reason="monai[fire] is not installed")
    pytest.importorskip("ignite", reason="monai[ignite] is not installed")
    from imbalanceseg.inference.segment import segment

    spacing = tuple(SPACING_MM[2 - axis] for axis in (1, 0, 2))
    names = ("T1", "T2")
    plan = Plan(
        dataset="Brains",
        preset="v2",
        channel_names=names,
        labels={0: "background", 1: "core", 2: "rim"},
        axes=(1, 0, 2),
        spacing_mm=spacing,
        anisotropic=False,
        patch=(32, 32, 40),
        batch=2,
        network="nnunet",
        strides=((1, 1, 1), (2, 2, 2)),
        kernels=((3, 3, 3), (3, 3, 3)),
        features=(8, 12),
        normalization=(Normalization(scheme="z-score"),) * 2,
        loss="dice_ce",
        loss_weight="none",
        sampling=Sampling(),
        reasons={},
    )
    kwargs = {
        "in_channels": 2, "out_channels": 3, "kernels": plan.kernels, "strides": plan.strides,
        "features": plan.features,
    }  # fmt: skip
    torch.manual_seed(0)
    network = create_network("nnunet", **kwargs).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    card = planned_card(
        plan,
        NetworkSpec(name="nnunet", kwargs=kwargs),
        name="brains",
        recipe_name="default",
        cases=3,
        largest_component_of=(2,),
    )
    bundle = write_bundle(tmp_path / "bundle", network, card)
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    scans = []
    for number in range(2):
        voxels = sitk.GetArrayFromImage(turned_scan()).astype(np.float32) + 2000
        voxels = voxels if number == 0 else np.abs(voxels[::-1]) ** 1.2
        voxels[:3], voxels[:, :, -4:] = 0, 0
        image = sitk.GetImageFromArray(voxels)
        image.CopyInformation(turned_scan())
        sitk.WriteImage(image, str(images / f"case_{number:04d}.nii.gz"))
        scans.append(sitk.ReadImage(str(images / f"case_{number:04d}.nii.gz")))
    run_monai(bundle.path, images, labels)
    found = sitk.ReadImage(str(labels / "case_0000_labels.nii.gz"))
    assert Grid.of(found).same_as(Grid.of(scans[0]), tolerance_mm=1e-2)
    ours = sitk.GetArrayFromImage(segment(scans, bundle, device="cpu", maps=()).labels)
    theirs = sitk.GetArrayFromImage(found)
    assert set(np.unique(ours)) == {0, 1, 2}
    assert min((ours == label).mean() for label in range(3)) > 0.02
    assert (ours == theirs).mean() > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lesion", "tumor"])
def test_runner_agrees_on_a_shipped_model(name: str, tmp_path: Path) -> None:
    pytest.importorskip("fire", reason="monai[fire] is not installed")
    pytest.importorskip("ignite", reason="monai[ignite] is not installed")
    from imbalanceseg import segment
    from imbalanceseg.synthesis.lesions import lesion_phantom
    from imbalanceseg.synthesis.tumor import tumor_phantom

    model = load_model(name)
    if name == "lesion":
        scan, reference = lesion_phantom(3, shape=(72, 96, 80), difficulty=0.1)
    else:
        grid = {"spacing_mm": (1.0, 1.0, 4.0), "shape": (20, 128, 128)}
        scan, reference = tumor_phantom(7, "glioma", difficulty=0.1, **grid)
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    sitk.WriteImage(scan, str(images / "scan.nii.gz"))
    run_monai(model.path, images, labels)
    theirs = sitk.ReadImage(str(labels / "scan_labels.nii.gz"))
    assert Grid.of(theirs).same_as(Grid.of(reference), tolerance_mm=1e-2)
    ours = sitk.GetArrayFromImage(segment(scan, model, device="cpu", maps=()).labels) > 0
    found = sitk.GetArrayFromImage(theirs) > 0
    assert ours.sum() > 50
    assert 2 * np.sum(ours & found) / (ours.sum() + found.sum()) > 0.9


def test_runner_resamples_to_the_same_grid(tmp_path: Path, make_card: Any) -> None:
    from monai.bundle import ConfigParser

    from imbalanceseg.models.monai_config import inference_config

    path = tmp_path / "scan.nii.gz"
    sitk.WriteImage(sitk.Cast(turned_scan(), sitk.sitkFloat32), str(path))
    scan = sitk.ReadImage(str(path))
    card = make_card(spacing_mm=(0.7, 0.8, 1.1))
    config = inference_config(card)
    parser = ConfigParser({key: config[key] for key in ("imports", "preprocessing")})
    theirs = parser.get_parsed_content("preprocessing")({"image": str(path)})["image"][0].numpy()
    grid = Grid.of(scan).oriented_lps().with_spacing(card.spacing_mm)
    ours = sitk.GetArrayFromImage(resample(scan, grid))
    ours = np.clip((ours + 1000) / 1400, 0, 1)
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() < 0.02
    assert np.abs(theirs - ours).mean() < 0.002
    assert ours.std() > 0.1
