"""Every command that reads files, given one that was damaged: it must refuse, or do its work.

Beside what holds for readers, a command that refuses leaves no result, and what it says is one
sentence with a code, never a trace.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk

if __package__:
    from .readers import GRID, READERS, Reader
else:
    from readers import GRID, READERS, Reader

from imbalanceseg.errors import ImbalanceSegError

_TOLD = re.compile(r"error\[([a-z0-9-]+)\]: .+", re.DOTALL)
_MODEL_MM = 2.0
_GOES_ON = {"training-diverged"}
"""What is said in the midst of work, of which the last checkpoint is kept."""


@dataclass
class Bench:
    """Good files beside the damaged one.

    Attributes:
        folder: where they lie.
    """

    folder: Path

    @classmethod
    @cache
    def at(cls, folder: Path) -> Bench:
        """The bench of a folder, laid out once."""
        made = cls(folder / "bench")
        made.folder.mkdir()
        return made

    def scan(self) -> Path:
        """A small scan."""
        return self._good("nrrd", "scan.nrrd")

    def labels(self) -> Path:
        """Labels on its grid, all of class 1 or background."""
        from imbalanceseg.geometry import image_from_array
        from imbalanceseg.io import write_image

        path = self.folder / "labels.nrrd"
        if not path.is_file():
            write_image(image_from_array(box(), GRID), path)
        return path

    def series(self) -> Path:
        """A DICOM series of noise."""
        from imbalanceseg.dicom.series import write_dicom_series
        from imbalanceseg.geometry import image_from_array

        place = self.folder / "series"
        if not place.is_dir():
            noise = np.random.default_rng(0).integers(-1000, 400, GRID.size[::-1])
            write_dicom_series(image_from_array(noise.astype(np.int16), GRID), place, seed="bench")
        return place

    def segments(self) -> Path:
        """What the labels mean."""
        return self._good("segments", "segments.json")

    def model(self) -> Path:
        """A network with random weights for small scans."""
        import torch

        from imbalanceseg.labels import LESION
        from imbalanceseg.models.card import ModelCard
        from imbalanceseg.models.write import write_bundle
        from imbalanceseg.networks import create_network

        place = self.folder / "model"
        if not place.is_dir():
            torch.manual_seed(0)
            arguments = {"in_channels": 1, "out_channels": 1, "features": [4, 8]}
            arguments |= {"kernels": [[3, 3, 3]] * 2, "strides": [[1, 1, 1], [2, 2, 2]]}
            card = ModelCard.model_validate(
                {
                    "name": "random",
                    "version": "0.0.1",
                    "title": "Random",
                    "description": "Random weights.",
                    "intended_use": "Tests.",
                    "modality": "other",
                    "body_part": "Any",
                    "network": {"name": "nnunet", "kwargs": arguments},
                    "spacing_mm": (_MODEL_MM,) * 3,
                    "channels": ({"normalization": {"scheme": "z-score"}},),
                    "tile_voxels": (16, 16, 16),
                    "threshold": 0.2,
                    "segments": (LESION,),
                    "training_data": ({"name": "nothing", "license": "CC0-1.0", "cases": 0},),
                    "limitations": ("It segments nothing of use.",),
                }
            )
            write_bundle(place, create_network("nnunet", **arguments), card)
        return place

    def dataset(self, images: dict[str, Path]) -> Path:
        """A training set of four good cases; some of its files are replaced."""
        place = self.folder / "dataset"
        shutil.rmtree(place, ignore_errors=True)
        for part, source in (("images", self.scan()), ("labels", self.labels())):
            (place / part).mkdir(parents=True)
            for number in range(4):
                shutil.copy(source, place / part / f"case{number}.nrrd")
        for name, source in images.items():
            shutil.copy(source, place / name)
        return place

    def _good(self, reader: str, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            place = self.folder / f"seeds-{reader}"
            place.mkdir()
            path.write_bytes(READERS[reader].seeds(place)[0])
        return path


def box() -> np.ndarray:
    """Labels of a box."""
    values = np.zeros(GRID.size[::-1], np.uint8)
    values[1:3, 2:5, 2:6] = 1
    return values


def run(output: Path, arguments: Sequence[object]) -> str:
    """What a command says where it has done its work; raises what it was refused with."""
    from imbalanceseg.cli.main import main

    if output.is_dir():
        shutil.rmtree(output)
    output.unlink(missing_ok=True)
    told, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(said):
        code = main([str(one) for one in arguments])
    # 1: of several cases, some could not be used; the others are done.
    if code == 0 or (code == 1 and "Not looked at: " in told.getvalue()):
        return told.getvalue()
    match = _TOLD.search(said.getvalue())
    if code != 2 or match is None or "Traceback" in said.getvalue():
        raise AssertionError(f"exit {code}: {said.getvalue()[-300:]}")
    if match[1] in _GOES_ON:
        raise ImbalanceSegError(match[1], "")
    left = [output] if output.is_file() else [p for p in output.rglob("*") if p.is_file()]
    if left:
        raise AssertionError(f"refused with {match[1]}, and left {left[0].name}")
    raise ImbalanceSegError(match[1], "")


def command(
    suffix: str,
    seeds: Callable[[Path], list[bytes]],
    build: Callable[[Bench, Path, Path], Sequence[object]],
    output: str = "out",
) -> Reader:
    """A command that is given damaged files."""

    def read(path: Path) -> object:
        target = path.parent / output
        return run(target, build(Bench.at(path.parent), path, target))

    return Reader(suffix, seeds, read)


def of_reader(
    name: str, build: Callable[[Bench, Path, Path], Sequence[object]], output: str = "out"
) -> Reader:
    """A command that is given damaged files of a reader."""
    return command(READERS[name].suffix, READERS[name].seeds, build, output)


def label_images(suffix: str) -> Callable[[Path], list[bytes]]:
    """Labels of types that programs write."""

    def make(folder: Path) -> list[bytes]:
        from imbalanceseg.geometry import image_from_array

        made = []
        for number, dtype in enumerate((np.uint8, np.int16, np.float32)):
            path = folder / f"labels{number}{suffix}"
            sitk.WriteImage(image_from_array(box().astype(dtype), GRID), str(path), number == 2)
            made.append(path.read_bytes())
        return made

    return make


def _segment(bench: Bench, path: Path, output: Path) -> Sequence[object]:
    return [
        *("segment", path, "-m", bench.model(), "-o", output),
        *("--device", "cpu", "--progress", "none"),
    ]


def _finetune(bench: Bench, path: Path, output: Path) -> Sequence[object]:
    return [
        *("finetune", bench.scan(), path, "-m", bench.model(), "-o", output, "--iterations", 1),
        *("--seconds", 1, "--device", "cpu", "--progress", "none"),
    ]


def _train(bench: Bench, path: Path, output: Path) -> Sequence[object]:
    return [
        *("train", bench.dataset({}), "-o", output, "--recipe", path, "--iterations", 1),
        *("--device", "cpu", "--progress", "none"),
    ]


def _recipes(folder: Path) -> list[bytes]:
    """Recipes whose training takes a moment."""
    return [
        b"patch: [8, 8, 8]\nbatch: 1\nvalidate_every: 1\nloss: {name: dice_ce}\n",
        b"network: {name: unet, settings: {channels: [4, 8]}}\npatch: [8, 8, 8]\nbatch: 2\n"
        b"sampling: {foreground: 0.5}\naugmentation: {noise: 0.5, rotation: 1}\n",
        b"loss: {name: focal, settings: {gamma: 2.0}, cross_entropy: 1.0}\npatch: [8, 8, 8]\n"
        b"schedule: {name: cosine, warmup: 3}\noptimizer: {name: adamw, learning_rate: 1e-3}\n",
    ]


def _plan(bench: Bench, path: Path, output: Path) -> Sequence[object]:
    return ["plan", bench.dataset({"images/case1.nrrd": path}), "-o", output]


def _plan_labels(bench: Bench, path: Path, output: Path) -> Sequence[object]:
    return ["plan", bench.dataset({"labels/case1.nrrd": path}), "-o", output]


def _hard(bench: Bench, path: Path, output: Path) -> Sequence[object]:
    dataset = bench.dataset({"images/case1.nrrd": path})
    return [
        *("hard", dataset, "-m", bench.model(), "-o", output),
        *("--device", "cpu", "--progress", "none"),
    ]


def _evaluate(bench: Bench, path: Path, output: Path) -> Sequence[object]:
    return ["evaluate", path, bench.labels(), "--metrics", "dice,hd95_mm,instances"]


def _dicom_seg(bench: Bench, path: Path, output: Path) -> Sequence[object]:
    return ["dicom-seg", path, bench.series(), "-o", output, "--segments", bench.segments()]


def _dicom_seg_codes(bench: Bench, path: Path, output: Path) -> Sequence[object]:
    return ["dicom-seg", bench.labels(), bench.series(), "-o", output, "--segments", path]


def _read_seg(bench: Bench, path: Path, output: Path) -> Sequence[object]:
    return ["read-seg", path, "-o", output]


def _dicom_report(bench: Bench, path: Path, output: Path) -> Sequence[object]:
    return ["dicom-report", path, path.parent / "seeds" / "s", "-o", output]


def _series(bench: Bench, path: Path, output: Path) -> Sequence[object]:
    place = bench.folder / "one"
    place.mkdir(exist_ok=True)
    shutil.copy(path, place / "one.dcm")
    return ["series", place]


def _models(bench: Bench, path: Path, output: Path) -> Sequence[object]:
    place = bench.folder / "changed"
    if not place.is_dir():
        shutil.copytree(bench.model(), place)
    shutil.copy(path, place / "configs" / "metadata.json")
    return ["models", "show", place]


COMMANDS: dict[str, Reader] = {
    "run-segment": of_reader("nrrd", _segment),
    "run-segment-nifti": of_reader("nifti", _segment),
    "run-finetune": of_reader("annotation", _finetune),
    "run-train": command(".yaml", _recipes, _train),
    "run-plan": of_reader("nrrd", _plan),
    "run-plan-labels": command(".nrrd", label_images(".nrrd"), _plan_labels),
    "run-hard": of_reader("nrrd", _hard),
    "run-evaluate": command(".nii", label_images(".nii"), _evaluate),
    "run-dicom-seg": command(".nii", label_images(".nii"), _dicom_seg, "out.dcm"),
    "run-dicom-seg-codes": of_reader("segments", _dicom_seg_codes, "out.dcm"),
    "run-read-seg": of_reader("dicom-seg", _read_seg, "out.nrrd"),
    "run-dicom-report": of_reader("dicom-seg", _dicom_report, "out.dcm"),
    "run-series": of_reader("dicom", _series),
    "run-models": of_reader("card", _models),
}
"""By what is tried: a command, and which of its files is damaged."""
