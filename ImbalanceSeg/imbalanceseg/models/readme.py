"""The model card as text for people: ``docs/README.md`` and ``LICENSE`` of a bundle."""

from __future__ import annotations

from collections.abc import Iterable

from imbalanceseg.models.card import ModelCard

_RUN = """```
imbalanceseg segment SCAN --model {name} -o RESULT
```

or with MONAI alone, inside this folder, on the NIfTI files of a folder (needs
`pip install imbalanceseg "monai[fire,ignite,nibabel]"`):

```
python -m monai.bundle run --config_file configs/inference.json \\
    --meta_file configs/metadata.json --dataset_dir IMAGES --output_dir LABELS
```

The engine also crops the scan, low-pass filters it before it makes it coarser, and draws a hardness
map; MONAI's runner does none of these, so results differ a little where the scan's voxels are finer
than the model's."""

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
        f"## Use\n\n{card.intended_use}\n\n{_RUN.format(name=card.name)}",
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


def _properties(card: ModelCard) -> list[tuple[str, str]]:
    x, y, z = card.spacing_mm
    clip = card.intensity
    rows = [
        ("name and version", f"{card.name} {card.version}"),
        ("modality, body part", f"{card.modality}, {card.body_part}"),
        ("segments", ", ".join(f"{s.label} {s.name}" for s in card.segments)),
        ("network", f"{card.network.name} {card.network.kwargs or ''}".strip()),
        ("voxel size (x, y, z)", f"{x:g} x {y:g} x {z:g} mm"),
        ("tile (x, y, z)", " x ".join(str(n) for n in card.tile_voxels) + " voxels"),
        ("intensities", f"{clip.clip_low:g} to {clip.clip_high:g} {clip.unit}, scaled to 0..1"),
        ("threshold", f"{card.threshold:g}"),
        ("largest component only", "yes" if card.keep_largest_component else "no"),
        ("hardness map", f"{card.hardness.sparsity:.0%} of the weights pruned"),
    ]
    if card.weights:
        rows.append(("SHA-256 of the weights", f"`{card.weights.sha256}`"))
    return rows


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
