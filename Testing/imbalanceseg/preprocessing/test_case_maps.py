"""Maps are those of the functions, computed once, and survive damage and company."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch

import imbalanceseg
from imbalanceseg import losses
from imbalanceseg.errors import InputError, OutputError
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.preprocessing import case_maps
from imbalanceseg.preprocessing.case_maps import CaseMaps, case_map_names

SPACING = (4.0, 3.0, 0.5)

# Everything that is not a default, for each map.
OTHER_SETTINGS = {
    "border_weight": {"strength": 3.0, "width": 8.0, "background_only": False, "balance": False},
    "centerline_distance_weight": {"exponent": 1.0},
    "label_components": {"binary": False, "smallest_voxels": 2},
    "local_imbalance_weight": {"exponent": 2.0},
    "signed_distance": {},
}
every_map = pytest.mark.parametrize("name", OTHER_SETTINGS)


def blobs(seed: int = 0) -> np.ndarray:
    """Background, two classes and unlabelled voxels, uint8 ``[6, 7, 8]``."""
    values = np.array([0, 0, 0, 1, 2, UNLABELLED], np.uint8)
    return np.random.default_rng(seed).choice(values, (6, 7, 8))


def directly(name: str, label: np.ndarray, spacing=SPACING, **settings) -> np.ndarray:
    """The map from the function of the losses itself."""
    if name == "label_components":
        target = torch.from_numpy(label)[None, None]
        return losses.label_components(target, **settings)[0, 0].numpy()
    if name == "local_imbalance_weight":
        return losses.local_imbalance_weight(label, **settings)
    if name == "signed_distance":
        return losses.signed_distance((label > 0) & (label != UNLABELLED), spacing)
    return getattr(losses, name)(label, spacing, **settings)


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the maps that were computed, in order."""
    names: list[str] = []

    def counted(name, function):
        @wraps(function)
        def count(*args, **kwargs):
            names.append(name)
            return function(*args, **kwargs)

        return count

    for name, function in case_maps._FUNCTIONS.items():
        monkeypatch.setitem(case_maps._FUNCTIONS, name, counted(name, function))
    return names


def test_every_map_is_tested_here():
    assert sorted(OTHER_SETTINGS) == case_map_names()


@every_map
def test_the_second_call_reads_what_the_function_gave_the_first(name, tmp_path, computed):
    label = blobs()
    maps = CaseMaps(tmp_path / "new" / "kept")
    for settings in ({}, OTHER_SETTINGS[name]):
        expected = directly(name, label, **settings)
        for _ in range(2):
            assert_same(maps.get(name, label, SPACING, **settings), expected)
        assert_same(CaseMaps(maps.folder).get(name, label, SPACING, **settings), expected)
    kept = len(list(maps.folder.iterdir()))
    assert computed == [name] * kept
    assert kept == (2 if OTHER_SETTINGS[name] else 1)


def test_a_default_may_be_spelled_out(tmp_path, computed):
    maps, name = CaseMaps(tmp_path), "centerline_distance_weight"
    maps.get(name, blobs(), SPACING)
    maps.get(name, blobs(), list(SPACING), exponent=0.5)
    maps.get(name, np.asfortranarray(blobs()), np.array(SPACING), exponent=np.float64(0.5))
    assert computed == [name]


def test_whatever_the_map_depends_on_makes_another_entry(tmp_path, computed):
    label = blobs()
    changed = label.copy()
    changed[0, 0, 0] ^= 1
    maps = CaseMaps(tmp_path)
    requests = [
        ("signed_distance", label, SPACING, {}),
        ("signed_distance", label, SPACING[::-1], {}),
        ("signed_distance", changed, SPACING, {}),
        ("signed_distance", label.reshape(6, 8, 7), SPACING, {}),
        ("signed_distance", label.view(np.int8), SPACING, {}),
        ("signed_distance", label == 2, SPACING, {}),
        ("border_weight", label, SPACING, {}),
        ("border_weight", label, SPACING, {"width": 4.0}),
        ("border_weight", label, SPACING, {"strength": 4.0}),
    ]
    for count, (name, array, spacing, settings) in enumerate(requests, 1):
        expected = directly(name, array, spacing, **settings)
        assert_same(maps.get(name, array, spacing, **settings), expected)
        assert len(computed) == len(list(tmp_path.iterdir())) == count


def test_another_format_reads_nothing_of_this_one(tmp_path, computed, monkeypatch):
    for version in (1, 2):
        monkeypatch.setattr(case_maps, "_FORMAT", version)
        CaseMaps(tmp_path).get("signed_distance", blobs(), SPACING)
    assert len(computed) == 2


def test_thick_slices_have_the_signed_distance_worked_out_by_hand(tmp_path):
    label = np.zeros((7, 9, 11), np.uint8)
    label[2:5, 3:6, 3:8] = 1
    label[6, 8, 10] = UNLABELLED
    for _ in range(2):
        distance = CaseMaps(tmp_path).get("signed_distance", label, SPACING)
        assert distance[3, 4, 5] == 0.5 - 3 * 0.5
        assert distance[2, 3, 4] == 0.5 - 2 * 0.5
        assert distance[3, 4, 3] == 0
        assert distance[0, 4, 5] == 2 * 4
        assert distance[3, 4, 10] == 3 * 0.5
        assert distance[5, 6, 5] == 5, "one slice and one row away: 4 and 3 mm"
        assert distance[6, 8, 10] == pytest.approx(np.sqrt(8**2 + 9**2 + 1.5**2))


def test_thick_slices_have_the_centreline_weight_worked_out_by_hand(tmp_path):
    """A line along X through a knob of 3x3x3: the knob's edges are 5 mm away, the farthest."""
    label = np.zeros((5, 5, 15), np.uint8)
    label[2, 2] = 1
    label[1:4, 1:4, 6:9] = 1
    for exponent in (0.5, 1.0):
        for _ in range(2):
            weight = CaseMaps(tmp_path).get(
                "centerline_distance_weight", label, SPACING, exponent=exponent
            )
            assert np.all(weight[2, 2] == 1)
            assert weight[2, 1, 7] == pytest.approx(1 - (3 / 5) ** exponent)
            assert weight[3, 2, 6] == pytest.approx(1 - (4 / 5) ** exponent)
            assert np.all(weight[1:4:2, 1:4:2, 6:9] == 0)
            assert np.all(weight[label == 0] == 1)


def test_thick_slices_have_the_border_weight_worked_out_by_hand(tmp_path):
    instances = np.zeros((2, 2, 5), np.uint8)
    instances[0, 0, 0], instances[0, 0, 4] = 1, 2
    sums = {
        (0, 0, 2): 1 + 1,
        (0, 0, 1): 0.5 + 1.5,
        (0, 1, 2): 2 * np.sqrt(3**2 + 1**2),
        (1, 0, 2): 2 * np.sqrt(4**2 + 1**2),
        (1, 1, 0): 5 + np.sqrt(5**2 + 2**2),
    }
    for _ in range(2):
        weight = CaseMaps(tmp_path).get("border_weight", instances, SPACING)
        for voxel, both in sums.items():
            expected = 0.5 / 0.9 + 10 * np.exp(-(both**2) / 50)
            assert weight[voxel] == pytest.approx(expected, rel=1e-6)
        assert weight[0, 0, 0] == weight[0, 0, 4] == 0.5 / np.float32(0.1)


def test_components_are_the_instances_of_the_label(tmp_path):
    label = np.zeros((2, 4, 6), np.uint8)
    label[0, 0, 0], label[1, 1, 1] = 1, 2
    label[1, 3, 5] = 1
    label[0, 3, 0] = UNLABELLED
    for _ in range(2):
        joined = CaseMaps(tmp_path).get("label_components", label, SPACING)
        assert joined[0, 0, 0] == joined[1, 1, 1] != joined[1, 3, 5]
        assert np.count_nonzero(joined) == 3
        parted = CaseMaps(tmp_path).get("label_components", label, SPACING, binary=False)
        assert len(np.unique(parted)) == 4


@pytest.fixture
def entry(tmp_path) -> Path:
    """The file of the signed distance of ``blobs()[:2, :2, :2]``."""
    CaseMaps(tmp_path).get("signed_distance", blobs()[:2, :2, :2], SPACING)
    (file,) = tmp_path.iterdir()
    return file


def assert_mended(entry: Path, whole: bytes) -> None:
    small = blobs()[:2, :2, :2]
    expected = directly("signed_distance", small)
    assert_same(CaseMaps(entry.parent).get("signed_distance", small, SPACING), expected)
    with np.load(entry) as file:
        assert_same(file["map"], expected)
    assert list(entry.parent.iterdir()) == [entry]
    entry.write_bytes(whole)


def test_a_cut_entry_is_computed_again_and_replaced(entry, computed):
    whole = entry.read_bytes()
    lengths = range(0, len(whole), 5)
    for length in lengths:
        entry.write_bytes(whole[:length])
        assert_mended(entry, whole)
    assert len(computed) == len(lengths)


def test_a_flipped_byte_does_not_change_the_map(entry):
    whole = entry.read_bytes()
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        entry.write_bytes(damaged)
        assert_mended(entry, whole)


def test_no_entry_is_unpickled(entry, computed):
    whole = entry.read_bytes()
    with entry.open("wb") as file:
        np.savez(file, map=np.array([{}], dtype=object), allow_pickle=True)
    assert_mended(entry, whole)
    with entry.open("wb") as file:
        np.save(file, np.zeros((2, 2, 2), np.float32))
    assert_mended(entry, whole)
    assert computed == ["signed_distance"] * 2


def test_an_interrupted_computation_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(label, spacing):
        raise KeyboardInterrupt

    monkeypatch.setitem(case_maps._FUNCTIONS, "signed_distance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        CaseMaps(tmp_path).get("signed_distance", blobs(), SPACING)
    assert list(tmp_path.iterdir()) == []


def test_threads_that_write_the_same_entry_do_not_disturb_each_other(tmp_path, monkeypatch):
    threads = 4
    together = Barrier(threads, timeout=60)
    plain = case_maps._FUNCTIONS["signed_distance"]

    def all_at_once(label, spacing):
        together.wait()
        return plain(label, spacing)

    monkeypatch.setitem(case_maps._FUNCTIONS, "signed_distance", all_at_once)
    with ThreadPoolExecutor(threads) as pool:
        for seed in range(20):
            label = blobs(seed)
            found = pool.map(
                lambda _, label=label: CaseMaps(tmp_path).get("signed_distance", label, SPACING),
                range(threads),
            )
            for each in found:
                assert_same(each, directly("signed_distance", label))
            assert_same(
                CaseMaps(tmp_path).get("signed_distance", label, SPACING),
                directly("signed_distance", label),
            )
    assert len(list(tmp_path.iterdir())) == 20


PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from imbalanceseg.preprocessing.case_maps import CaseMaps
maps = CaseMaps(sys.argv[2])
labels = [np.random.default_rng(seed).integers(0, 2, (16, 16, 16)) for seed in range(40)]
print("ready", flush=True)
input()
found = [maps.get("signed_distance", label, (4.0, 3.0, 0.5)) for label in labels]
sys.stdout.buffer.write(np.stack(found).tobytes())
"""


def test_processes_that_write_the_same_entries_do_not_disturb_each_other(tmp_path, computed):
    source = Path(imbalanceseg.__file__).parents[1]
    command = [sys.executable, "-c", PROCESS, str(source), str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline().strip() == b"ready"
    for process in processes:
        process.stdin.write(b"\n")
        process.stdin.flush()
    labels = [np.random.default_rng(seed).integers(0, 2, (16, 16, 16)) for seed in range(40)]
    expected = [directly("signed_distance", label) for label in labels]
    for process in processes:
        written, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert written == np.stack(expected).tobytes()
    assert len(list(tmp_path.iterdir())) == len(labels)
    for label, distance in zip(labels, expected, strict=True):
        assert_same(CaseMaps(tmp_path).get("signed_distance", label, SPACING), distance)
    assert not computed


def test_an_unknown_map_is_refused_with_those_that_are_known(tmp_path):
    with pytest.raises(InputError) as caught:
        CaseMaps(tmp_path).get("distance", blobs(), SPACING)
    assert caught.value.code == "map-unknown"
    assert all(name in caught.value.hint for name in OTHER_SETTINGS)


@every_map
def test_an_unknown_setting_is_refused_with_those_that_are_known(name, tmp_path, computed):
    for unknown in ("sigma", "mask"):
        with pytest.raises(InputError) as caught:
            CaseMaps(tmp_path).get(name, blobs(), SPACING, **{unknown: 1})
        assert caught.value.code == "map-settings"
        assert unknown in caught.value.message
        assert all(setting in caught.value.hint for setting in OTHER_SETTINGS[name])
    assert not computed


def test_what_the_function_refuses_is_not_kept(tmp_path):
    with pytest.raises(InputError) as caught:
        CaseMaps(tmp_path).get("signed_distance", blobs(), (1.0, 0.0, 1.0))
    assert caught.value.code == "spacing-invalid"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_work(
    tmp_path, computed, monkeypatch
):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError) as caught:
        CaseMaps(tmp_path / "file" / "kept").get("signed_distance", blobs(), SPACING)
    assert caught.value.code == "output-folder-missing"
    # Not by its mode: tests may run as root, who may write anywhere.
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(OutputError) as caught:
        CaseMaps(tmp_path).get("signed_distance", blobs(), SPACING)
    assert caught.value.code == "output-not-writable"
    assert not computed
