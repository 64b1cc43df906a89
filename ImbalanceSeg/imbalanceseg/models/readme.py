"""The model card as text for people: ``docs/README.md`` and ``LICENSE`` of a bundle."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from imbalanceseg.models.card import Channel, ModelCard
from imbalanceseg.models.monai_config import obstacle

_ENGINE = """```
imbalanceseg segment {arguments} --model {name} -o RESULT
```
"""

_MONAI = """
or with MONAI alone, inside this folder, on the NIfTI files of a folder{naming} (needs
`pip install imbalanceseg "monai[fire,ignite,nibabel]"`):

```
python -m monai.bundle run --config_file configs/inference.json \\
    --meta_file configs/metadata.json --dataset_dir IMAGES --output_dir LABELS
```

"""

_NO_MONAI = """
MONAI's own runner cannot use it, and there is no `configs/inference.json`. {obstacle}"""

_LICENSE_NOTICES = {
    "Apache-2.0": """Licensed under the Apache License, Version 2.0 (the "License");
you may not use this model except in compliance with the License.
You may obtain a copy of the License at

    http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software
distributed under the License is distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
See the License for the specific language governing permissions and
limitations under the License.
"""
}


def render_readme(card: ModelCard) -> str:
    """The card as Markdown."""
    sections = [
        f"# {card.title}\n\n{card.description}\n\n**Not for clinical use.**",
        f"## Use\n\n{card.intended_use}\n\n{_run(card)}",
        f"## Limitations\n\n{_bullets(card.limitations)}",
        f"## Measured\n\n{_metrics(card)}",
        f"## Training data\n\n{_bullets(_training_data(card))}",
        f"## Model\n\n{_table(('property', 'value'), _properties(card))}",
    ]
    if card.references:
        sections.append(f"## References\n\n{_bullets(card.references)}")
    sections.append(f"## Licence\n\n{card.license}. {card.copyright}.")
    return "\n\n".join(sections) + "\n"


def render_license(card: ModelCard) -> str:
    """The copyright line and the notice that the licence asks for."""
    notice = _LICENSE_NOTICES.get(card.license)
    if notice is None:
        notice = f"SPDX-License-Identifier: {card.license}\n"
    return f"{card.copyright}\n\n{notice}"


def _run(card: ModelCard) -> str:
    more = [f"--channel {channel.name.replace(' ', '_')}" for channel in card.channels[1:]]
    text = _ENGINE.format(arguments=" ".join(["SCAN", *more]), name=card.name)
    reason = obstacle(card)
    if reason is not None:
        return text + _NO_MONAI.format(obstacle=reason)
    naming = ""
    if len(card.channels) > 1:
        naming = ", named CASE_0000.nii.gz, CASE_0001.nii.gz, ... by channel"
    return text + _MONAI.format(naming=naming) + _differences(card)


def _differences(card: ModelCard) -> str:
    """What the engine does and MONAI's runner does not."""
    extras = [
        *(["crops the scan"] if card.crop == "lungs" else []),
        "low-pass filters it before it makes it coarser",
        *(["resamples with cubic splines"] if card.resampling == "spline" else []),
    ]
    finer = "not the model's" if card.resampling == "spline" else "finer than the model's"
    text = (
        f"The engine also {', '.join(extras)}, and draws a hardness map; MONAI's runner does none "
        f"of these, so results differ a little where the scan's voxels are {finer}."
    )
    if card.resampling == "spline":
        text += (
            " Where the slices of a scan are more than three times as thick as a pixel is wide, "
            "the engine never mixes them; MONAI's runner does"
            + (" on the way back." if card.anisotropic else ".")
        )
    steps = [
        *(["uncertain components removed"] if card.high_threshold else []),
        *(["holes filled"] if card.fill_holes else []),
        *(["leaks cut off"] if card.cut_leaks else []),
        *(["small components removed"] if card.smallest_mm3 else []),
    ]
    if steps:
        text += f" Only the engine's labels have {', '.join(steps)}."
    return textwrap.fill(text, 100)


def _properties(card: ModelCard) -> list[tuple[str, str]]:
    mirrored = [card.axes[axis] for axis in card.mirrored_axes]
    largest = _named(card, card.largest_component_of)
    between = " x ".join
    rows = [
        ("name and version", f"{card.name} {card.version}"),
        ("modality, body part", f"{card.modality}, {card.body_part}"),
        ("segments", ", ".join(f"{s.label} {s.name}" for s in card.segments)),
        ("network", f"{card.network.name} {card.network.kwargs or ''}".strip()),
        ("voxel size (x, y, z)", _spacing(card)),
        ("tile (x, y, z)", between(str(n) for n in card.tile_voxels) + " voxels"),
        *((f"intensities, {c.name}", _scaling(c)) for c in card.channels),
        ("network's axes", ", ".join(_axis_names(card, card.axes))),
        ("mirrored at test time", ", ".join(_axis_names(card, mirrored)) or "never"),
        ("threshold", f"{card.threshold:g}" if len(card.segments) == 1 else "the likeliest class"),
        *([("certain above", f"{card.high_threshold:g}")] if card.high_threshold else []),
        *([("holes filled", _named(card, card.fill_holes))] if card.fill_holes else []),
        *([("leaks cut off", f"as seen from the {card.root}")] if card.cut_leaks else []),
        ("largest component only", largest or "no"),
        *([("smallest component", f"{card.smallest_mm3:g} mm3")] if card.smallest_mm3 else []),
        ("hardness map", _hardness(card)),
        *([("coarse pass", _gate(card))] if card.gate else []),
    ]
    for weights in card.weights:
        rows.append((f"SHA-256 of {weights.file}", f"`{weights.sha256}`"))
    return rows


def _hardness(card: ModelCard) -> str:
    pruned = f"{card.hardness.sparsity:.0%} of the weights pruned"
    kind = card.hardness.kind
    return pruned if kind == "pruning" else f"{kind}; or pruning, with {pruned}"


def _gate(card: ModelCard) -> str:
    assert card.gate is not None
    factor = " x ".join(map(str, card.gate.factor))
    reach = f"{card.gate.reach} voxels around a probability of {card.gate.threshold:g}"
    return f"{factor} coarser, then {reach}"


def _named(card: ModelCard, labels: Iterable[int]) -> str:
    return ", ".join(segment.name for segment in card.segments if segment.label in labels)


def _axis_names(card: ModelCard, axes: Iterable[int]) -> list[str]:
    return ["zyx"[axis - card.spatial_dims] for axis in axes]


def _spacing(card: ModelCard) -> str:
    if card.spacing_mm is None:
        return "the image's"
    text = " x ".join(f"{step:g}" for step in card.spacing_mm) + " mm"
    return f"{text}, slices are not mixed" if card.anisotropic else text


def _scaling(channel: Channel) -> str:
    scheme = channel.normalization
    unit = f" {channel.unit}" if channel.unit else ""
    if scheme.scheme == "z-score":
        return "minus the image's mean, divided by its standard deviation"
    if scheme.scheme == "masked z-score":
        return "minus the mean of the voxels that are not 0, divided by their standard deviation"
    clipped = f"{scheme.low:g} to {scheme.high:g}{unit}"
    if scheme.scheme == "range":
        return f"{clipped}, scaled to 0..1"
    return f"{clipped}, minus {scheme.mean:.4g}, divided by {scheme.std:.4g}"


def _metrics(card: ModelCard) -> str:
    rows = [
        (test_set, metric, f"{value:.4g}")
        for test_set, values in card.metrics.items()
        for metric, value in values.items()
    ]
    return _table(("test set", "metric", "value"), rows) if rows else "Nothing was measured."


def _training_data(card: ModelCard) -> list[str]:
    lines = []
    for data in card.training_data:
        count = f", {data.cases} cases" if data.cases is not None else ""
        parts = [f"{data.name}{count} ({data.license})", data.source, data.note]
        lines.append(". ".join(part.rstrip(".") for part in parts if part) + ".")
    return lines


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in r)} |" for r in lines)
