from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid
from imbalanceseg.synthesis import tumor_cases
from imbalanceseg.synthesis.implant_tumor import draw_signals, implant_tumor
from imbalanceseg.synthesis.shapes import Coordinates, ellipsoid
from imbalanceseg.synthesis.thick_slices import Slices
from imbalanceseg.synthesis.tumor_cases import TumorSources, tumor_case
from imbalanceseg.synthesis.tumor_hosts import Host, Terrain, read_mni

SIZE = (54, 64, 48)
SPACING = 2.4
CANAL = ((12.0, 18.0, -20.0), (19.0, 18.0, -20.0))


def voxels(image):
    return sitk.GetArrayFromImage(image)


def host(seed=0, contrast="T1c", own=False):
    """A smooth ball of brain in coarse voxels with a ventricle, nothing around it."""
    spacing = SPACING
    origin = [-(n - 1) / 2 * spacing for n in SIZE]
    grid = Grid(SIZE, (spacing,) * 3, tuple(origin), tuple(np.eye(3).ravel()))
    x, y, z = (torch.arange(n) * spacing + o for n, o in zip(SIZE, origin, strict=True))
    at = Coordinates(x[None, None, :], y[None, :, None], z[:, None, None])
    brain = ellipsoid(at, (0, 0, 0), (58, 70, 52))
    ventricle = ellipsoid(at, (0, 0, 5), (8, 18, 8))
    disease = at.distance((25, 30, 10)) - 12 if own else torch.full_like(brain, 200.0)
    generator = torch.Generator().manual_seed(seed)
    image = 300 + 6 * torch.randn(brain.shape, generator=generator)
    image = torch.where(ventricle < 0, 0.4 * image, image) * (brain < 0)
    terrain = Terrain(grid, brain, ventricle, disease, skull=False, canal=CANAL)
    return Host(f"ball {seed} {contrast}", contrast, image, 300.0, 120.0, terrain)


SOURCES = TumorSources([host(1), host(2, own=True)], [host(3)])


@pytest.fixture
def only_implants(monkeypatch):
    monkeypatch.setattr(tumor_cases, "_PROCEDURAL", 0.0)


def assert_sound(image, label):
    assert Grid.of(image) == Grid.of(label)
    assert (image.GetPixelID(), label.GetPixelID()) == (sitk.sitkFloat32, sitk.sitkUInt8)
    assert np.isfinite(voxels(image)).all()
    assert set(np.unique(voxels(label))) <= {0, 1, 255}
    x, y, z = image.GetSpacing()
    assert x == y
    assert 0.4 <= x <= 1.0
    assert 1.5 <= z <= 6.5


@pytest.mark.parametrize("validation", [False, True])
def test_a_seed_is_one_case(only_implants, validation):
    image, label, made_of = tumor_case(5, SOURCES, validation)
    again = tumor_case(5, SOURCES, validation)
    assert made_of == again[2]
    np.testing.assert_array_equal(voxels(image), voxels(again[0]))
    np.testing.assert_array_equal(voxels(label), voxels(again[1]))
    assert_sound(image, label)


def test_a_grown_head_is_sound_and_follows_its_seed(monkeypatch):
    monkeypatch.setattr(tumor_cases, "_FINE_MM", (3.2, 3.2, 3.2))
    image, label, made_of = tumor_case(3, TumorSources())
    assert made_of.startswith("procedural")
    assert_sound(image, label)
    assert (voxels(label) == 1).any()
    np.testing.assert_array_equal(voxels(image), voxels(tumor_case(3, TumorSources())[0]))


def test_validation_has_other_heads_than_training_of_the_same_seed(monkeypatch):
    monkeypatch.setattr(tumor_cases, "_FINE_MM", (4.8, 4.8, 4.8))
    train, held_out = (tumor_case(4, TumorSources(), validation=v) for v in (False, True))
    assert Grid.of(train[0]) != Grid.of(held_out[0])


def test_validation_draws_from_hosts_that_training_never_sees(only_implants):
    def hosts(validation):
        words = [tumor_case(seed, SOURCES, validation)[2] for seed in range(6)]
        return {name for name in ("ball 1", "ball 2", "ball 3") for w in words if name in w}

    assert hosts(validation=True) == {"ball 3"}
    assert hosts(validation=False) == {"ball 1", "ball 2"}


def test_disease_that_nobody_outlined_stays_unlabelled(only_implants):
    sources = TumorSources([host(2, own=True)])
    cases = [voxels(tumor_case(seed, sources)[1]) for seed in range(4)]
    assert all((label == 255).any() for label in cases)
    assert any((label == 1).any() for label in cases)


def test_some_cases_have_no_tumor(only_implants, monkeypatch):
    monkeypatch.setattr(tumor_cases, "_WITHOUT_TUMOR", 1.0)
    _, label, made_of = tumor_case(0, SOURCES)
    assert "without" in made_of
    assert not (voxels(label) == 1).any()


@pytest.mark.parametrize("kind", ["glioma", "metastasis", "meningioma", "schwannoma"])
@pytest.mark.parametrize("contrast", ["T1c", "T2", "FLAIR"])
def test_an_implant_leaves_the_rest_of_the_scan_alone(kind, contrast):
    scan = host(4, contrast)
    before = scan.image.clone()
    made = implant_tumor(scan, kind, 3.0, seed=7)
    assert torch.equal(scan.image, before)
    changed = made.image != before
    elsewhere = torch.ones_like(changed)
    elsewhere[made.box] = False
    assert not changed[elsewhere].any()
    assert set(made.core.unique().tolist()) == {0.0, 1.0}
    assert changed[made.core > 0].float().mean() > 0.99
    assert changed.float().mean() < 0.2
    again = implant_tumor(scan, kind, 3.0, seed=7)
    assert torch.equal(again.image, made.image)


def test_an_implant_keeps_off_the_patients_own_disease():
    scan = host(5, own=True)
    for seed in range(4):
        made = implant_tumor(scan, "glioma", 3.0, seed)
        assert not made.core[scan.terrain.unlabelled_mm < 2].any()
        assert torch.equal(
            made.image[scan.terrain.unlabelled_mm < 0], scan.image[scan.terrain.unlabelled_mm < 0]
        )


def test_a_scan_without_room_is_refused():
    scan = host(6)
    full = replace(scan.terrain, unlabelled_mm=torch.full_like(scan.image, -1.0), canal=None)
    for kind in ("glioma", "schwannoma"):
        with pytest.raises(InputError) as refused:
            implant_tumor(replace(scan, terrain=full), kind, 3.0, 0)
        assert refused.value.code == "no-room-for-tumor"
        assert refused.value.hint


def test_tumors_enhance_and_cysts_do_not():
    rng = np.random.default_rng(0)
    for _ in range(20):
        signals = draw_signals("T1c", rng)
        assert signals["solid"] > 1.2 * signals["cyst"]


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_slices_show_the_mean_of_what_lies_in_them(plane):
    scan = host(7)
    high = np.array(scan.terrain.grid.index_to_physical([n - 1 for n in SIZE]))
    slices = Slices.over(-high, high, plane, 1.0, 5.0)
    assert Grid.is_sound(slices.grid)
    assert np.linalg.det(slices.grid.matrix) == pytest.approx(1)
    inside = (scan.terrain.brain_mm < 0).float()
    seen = slices.of(inside, scan.terrain.grid)
    assert float(seen.sum()) * 5.0 == pytest.approx(float(inside.sum()) * SPACING**3, rel=0.01)
    x, y, z = (np.abs(slices.grid.matrix) @ slices.grid.spacing_mm).round(6)
    assert {"axial": z, "coronal": y, "sagittal": x}[plane] == 5.0


def test_a_mirrored_host_has_everything_on_the_other_side():
    scan = host(8, own=True)
    flipped = scan.mirrored()
    assert torch.equal(flipped.image.flip(2), scan.image)
    assert torch.equal(flipped.terrain.unlabelled_mm.flip(2), scan.terrain.unlabelled_mm)


def test_a_tumor_finds_its_place_in_a_tilted_scan(tmp_path):
    tilted = (0.98, -0.17, 0.1, 0.17, 0.98, 0.05, -0.1, -0.03, 0.99)
    columns = np.linalg.qr(np.reshape(tilted, (3, 3)))[0]
    columns *= np.sign(np.diag(columns))
    for name, contrast in (("t1post", "T1c"), ("t2", "T2"), ("flair", "FLAIR")):
        scan = sitk.GetImageFromArray(host(9, contrast).image.numpy())
        scan.SetSpacing((SPACING,) * 3)
        scan.SetDirection(columns.ravel().tolist())
        sitk.WriteImage(scan, str(tmp_path / f"p_{name}.nii.gz"))
    hosts = read_mni(tmp_path, "p")
    assert [h.contrast for h in hosts] == ["T1c", "T2", "FLAIR"]
    for seed in range(3):
        made = implant_tumor(hosts[0], "glioma", 6.0, seed)
        assert float(made.core.sum()) * SPACING**3 > 400
        assert hosts[0].terrain.brain_mm[made.core > 0].max() < 0


@pytest.mark.slow
def test_real_scans_lend_their_texture(data_folder):
    if not (data_folder / "ms_lesions_mni").is_dir():
        pytest.skip("no ms_lesions_mni under IMBALANCESEG_DATA")
    sources = TumorSources.read(data_folder)
    patients = [
        {h.name.rsplit(" ", 1)[0] for h in s} for s in (sources.training, sources.validation)
    ]
    assert patients[0] & patients[1] == set()
    for scan in (*sources.training, *sources.validation):
        inside = scan.terrain.brain_mm < 0
        litres = float(inside.sum()) * np.prod(scan.terrain.grid.spacing_mm) / 1e6
        assert 0.9 < litres < 2.0, scan.name
        assert (scan.csf > scan.white) == (scan.contrast == "T2")
        voxel = np.prod(scan.terrain.grid.spacing_mm)
        assert float(implant_tumor(scan, "metastasis", 5.0, 0).core.sum()) * voxel > 300


@pytest.mark.slow
def test_a_real_glioma_is_held_out(data_folder):
    if not (data_folder / "tumour_glioma").is_dir():
        pytest.skip("no tumour_glioma under IMBALANCESEG_DATA")
    sources = TumorSources(glioma=data_folder / "tumour_glioma")
    for seed, contrast in enumerate(("T1c", "T2", "FLAIR")):
        image, label, made_of = tumor_case(seed, sources, validation=True)
        assert made_of == f"real glioma {contrast}"
        assert Grid.of(image) == Grid.of(label)
        millilitres = (voxels(label) == 1).sum() * np.prod(image.GetSpacing()) / 1000
        assert 7 < millilitres < 12
