"""Training cases of the lesion model: whose lesions, in whose brain, and not those of the judge."""

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.geometry import Grid
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.synthesis import lesion_cases
from imbalanceseg.synthesis.lesion_cases import LesionSources, lesion_case


@pytest.fixture(scope="module")
def sources(data_folder):
    """Real scans; no phantoms are drawn beside them, which would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lesion_cases, "_PROCEDURAL", 0.0)
        yield LesionSources.read(data_folder)


def voxels(image):
    return sitk.GetArrayFromImage(image)


def case_in(sources, host, validation=False):
    """The first case with lesions implanted in a host."""
    for seed in range(40):
        image, label, about = lesion_case(seed, sources, validation)
        if about.startswith("lesions") and about.endswith(f"in {host}"):
            return image, label, about
    raise AssertionError(f"nothing was implanted in {host}")


class TestWithoutRealScans:
    def test_all_cases_are_phantoms(self, tmp_path):
        sources = LesionSources.read(tmp_path)
        image, label, about = lesion_case(3, sources)
        assert about == "phantom"
        assert Grid.of(image).same_as(Grid.of(label))
        assert set(np.unique(voxels(label))) == {0, 1}

    def test_validation_has_other_phantoms(self):
        sources = LesionSources.read(None)
        labels = [voxels(lesion_case(3, sources, validation)[1]) for validation in (False, True)]
        assert (labels[0] != labels[1]).any()


class TestWithRealScans:
    def test_the_judging_patient_lends_nothing(self, sources):
        assert 7 not in sources.masks
        assert all("07" not in host.name for host in (*sources.training, *sources.validation))

    def test_training_and_validation_share_no_scan(self, sources):
        names = [{host.name for host in hosts} for hosts in (sources.training, sources.validation)]
        assert all(names)
        assert not set.intersection(*names)

    def test_same_seed_same_case(self, sources):
        one, other = (case_in(sources, "glioma") for _ in range(2))
        assert one[2] == other[2]
        assert (voxels(one[0]) == voxels(other[0])).all()
        assert (voxels(one[1]) == voxels(other[1])).all()

    @pytest.mark.parametrize(
        ("host", "validation"), [("patient 19", False), ("glioma", False), ("metastases", True)]
    )
    def test_implanted_lesions_lie_in_the_host_and_are_brighter(self, sources, host, validation):
        image, label, _ = case_in(sources, host, validation)
        hosts = sources.validation if validation else sources.training
        scan = next(one for one in hosts if one.name == host)
        added = (voxels(label) == 1) & (scan.label != 1)
        assert added.any()
        assert scan.free[added].all()
        rise = voxels(image).astype(float) - voxels(scan.image)
        assert rise[added].mean() > 3 * rise[scan.free & ~added].mean()
        assert Grid.of(image).same_as(Grid.of(scan.image))

    def test_own_lesions_stay_labelled_and_what_nobody_labelled_says_so(self, sources):
        _, label, _ = case_in(sources, "patient 19")
        own = next(one for one in sources.training if one.name == "patient 19").label == 1
        assert (voxels(label)[own] == 1).all()
        glioma = next(one for one in sources.training if one.name == "glioma").label
        assert (voxels(case_in(sources, "glioma")[1])[glioma == UNLABELLED] == UNLABELLED).all()
