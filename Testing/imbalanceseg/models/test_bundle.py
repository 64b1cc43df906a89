"""Bundles survive writing and reading, and everything that is wrong with one is told apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from imbalanceseg.errors import ImbalanceSegError, ModelError, OutputError
from imbalanceseg.labels import AIRWAY_TREE
from imbalanceseg.models import bundle
from imbalanceseg.models.bundle import Model, list_models, load_model, sha256_of
from imbalanceseg.models.card import WEIGHTS_FILE, ModelCard
from imbalanceseg.models.write import add_metrics, write_bundle
from imbalanceseg.networks import WingsNet, create_network, network_names

MakeCard = Callable[..., ModelCard]


@pytest.fixture
def written(tmp_path: Path, make_card: MakeCard, wingsnet: WingsNet) -> Model:
    return write_bundle(tmp_path / "test-airway", wingsnet, make_card())


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(ImbalanceSegError) as caught:
        call()
    assert caught.value.hint
    return caught.value.code


def change_card(model: Model, **changes: Any) -> None:
    path = model.path / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["imbalanceseg"] |= changes
    path.write_text(json.dumps(metadata))


def change_weights(model: Model, state: dict[str, torch.Tensor]) -> None:
    """Replace the weights and make the checksum right again."""
    save_file(state, model.path / WEIGHTS_FILE)
    change_card(model, weights={"sha256": sha256_of(model.path / WEIGHTS_FILE)})


def test_written_bundle_reads_back_the_same(
    written: Model, make_card: MakeCard, wingsnet: WingsNet
) -> None:
    again = load_model(written.path)
    assert again.card.model_copy(update={"weights": ()}) == make_card()
    assert (again.name, again.version, again.segments) == ("test-airway", "0.1.0", (AIRWAY_TREE,))
    network = again.network
    assert network is again.network
    assert not network.training
    for (name, ours), theirs in zip(
        network.state_dict().items(), wingsnet.state_dict().values(), strict=True
    ):
        assert ours.dtype == torch.float32, name
        assert torch.equal(ours, theirs.half().float()), name


def test_layout_is_that_of_a_monai_bundle(written: Model) -> None:
    files = {str(p.relative_to(written.path)) for p in written.path.rglob("*") if p.is_file()}
    assert files == {
        "configs/metadata.json",
        "configs/inference.json",
        "models/model.safetensors",
        "docs/README.md",
        "LICENSE",
    }
    assert [p.name for p in written.path.parent.iterdir()] == ["test-airway"]
    state = load_file(written.path / WEIGHTS_FILE)
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    metadata = json.loads((written.path / "configs/metadata.json").read_text())
    for key in ("monai_version", "pytorch_version", "numpy_version", "task", "description"):
        assert metadata[key], key
    for key in ("authors", "copyright", "required_packages_version", "network_data_format"):
        assert metadata[key], key
    assert metadata["version"] == written.version


def test_readme_states_what_a_reader_must_know(written: Model) -> None:
    text = (written.path / "docs/README.md").read_text()
    for needed in (
        "Not for clinical use",
        "It segments nothing of use.",
        "CC0-1.0",
        "| phantom | dice | 0.5 |",
        written.card.weights[0].sha256,
    ):
        assert needed in text
    assert "Apache License, Version 2.0" in (written.path / "LICENSE").read_text()


def test_weights_of_a_channels_last_network_are_stored_whole(
    tmp_path: Path, make_card: MakeCard, wingsnet: WingsNet
) -> None:
    last = wingsnet.to(memory_format=torch.channels_last_3d)
    model = write_bundle(tmp_path / "m", last, make_card())
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model.network(image), last(image), atol=2e-2, rtol=2e-2)


def test_writing_replaces_an_older_bundle_and_nothing_else(
    written: Model, tmp_path: Path, make_card: MakeCard, wingsnet: WingsNet
) -> None:
    newer = write_bundle(written.path, wingsnet, make_card(version="0.2.0"))
    assert newer.version == "0.2.0"
    assert [p.name for p in tmp_path.iterdir()] == ["test-airway"]
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("years of work")
    assert code_of(lambda: write_bundle(other, wingsnet, make_card())) == "output-exists"
    assert (other / "chapter.txt").read_text() == "years of work"


def test_figures_are_added_to_a_card_and_nothing_else_changes(written: Model) -> None:
    before = written.card
    add_metrics(written.path, {"a scan": {"dice": 0.25}})
    after = load_model(written.path).card
    assert after.metrics == before.metrics | {"a scan": {"dice": 0.25}}
    assert after.model_copy(update={"metrics": before.metrics}) == before
    assert "a scan" in (written.path / "docs" / "README.md").read_text()


def test_what_float16_does_not_know_stays_as_it_is(
    tmp_path: Path, make_card: MakeCard, wingsnet: WingsNet
) -> None:
    with torch.no_grad():
        wingsnet.encoder[0].conv.weight[0] = 1e6
    model = write_bundle(tmp_path / "m", wingsnet, make_card())
    state = load_file(model.path / WEIGHTS_FILE)
    assert [n for n, t in state.items() if t.dtype == torch.float32] == ["encoder.0.conv.weight"]
    assert float(model.network.encoder[0].conv.weight.max()) == 1e6  # type: ignore[union-attr, index]


def test_nothing_is_left_of_a_bundle_that_cannot_be_written(
    tmp_path: Path, make_card: MakeCard, wingsnet: WingsNet
) -> None:
    with torch.no_grad():
        wingsnet.encoder[0].conv.weight[0] = torch.inf
    target = tmp_path / "m"
    assert code_of(lambda: write_bundle(target, wingsnet, make_card())) == "weights-not-finite"
    two = WingsNet(out_channels=2)
    assert code_of(lambda: write_bundle(target, two, make_card())) == "network-mismatch"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_parent_is_an_output_error(
    tmp_path: Path, make_card: MakeCard, wingsnet: WingsNet
) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError):
        write_bundle(tmp_path / "m", wingsnet, make_card())


def test_one_changed_byte_is_damage(written: Model) -> None:
    path = written.path / WEIGHTS_FILE
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    model = load_model(written.path)
    for use in (model.verify, lambda: model.network):
        with pytest.raises(ModelError) as caught:
            use()
        assert caught.value.code == "model-damaged"
        assert written.card.weights[0].sha256[:12] in caught.value.message
        assert sha256_of(path)[:12] in caught.value.message


def test_several_networks_have_a_file_each(tmp_path: Path, make_card: MakeCard) -> None:
    networks = [WingsNet().eval() for _ in range(3)]
    model = write_bundle(tmp_path / "folds", networks, make_card())
    names = ["model.safetensors", "model_fold1.safetensors", "model_fold2.safetensors"]
    assert sorted(p.name for p in (model.path / "models").iterdir()) == names
    for ours, theirs in zip(model.networks, networks, strict=True):
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name].half().float()), name
    assert not (model.path / "configs/inference.json").exists()
    assert "averages the probabilities" in (model.path / "docs/README.md").read_text()
    path = model.path / "models" / names[2]
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    damaged = load_model(model.path)
    for use in (damaged.verify, lambda: damaged.networks):
        with pytest.raises(ModelError) as caught:
            use()
        assert caught.value.code == "model-damaged"
        assert names[2] in caught.value.message


def test_missing_weights_are_damage(written: Model) -> None:
    (written.path / WEIGHTS_FILE).unlink()
    assert code_of(load_model(written.path).verify) == "model-damaged"


class _Hostile:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_pickle_in_place_of_the_weights_is_refused_and_never_run(
    written: Model, tmp_path: Path
) -> None:
    mark = tmp_path / "executed"
    torch.save({"state": _Hostile(mark)}, written.path / WEIGHTS_FILE)
    assert code_of(lambda: load_model(written.path).network) == "model-damaged"
    change_card(written, weights={"sha256": sha256_of(written.path / WEIGHTS_FILE)})
    assert code_of(lambda: load_model(written.path).network) == "model-invalid"
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.pop("decoder.0.conv.weight"), "'decoder.0.conv.weight' is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "'extra' is surplus"),
        (lambda s: s.update({"encoder.0.conv.bias": torch.zeros(9)}), "(9,) instead of (8,)"),
        (lambda s: s.update({"encoder.0.conv.bias": torch.zeros(8).int()}), "has type I32"),
        (lambda s: s.update({"encoder.0.conv.bias": torch.full((8,), torch.nan)}), "NaN"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    written: Model, change: Callable[[dict[str, torch.Tensor]], Any], reason: str
) -> None:
    state = load_file(written.path / WEIGHTS_FILE)
    change(state)
    change_weights(written, state)
    with pytest.raises(ModelError) as caught:
        _ = load_model(written.path).network
    assert caught.value.code == "model-invalid"
    assert reason in caught.value.message


def test_a_card_that_asks_for_a_huge_network_is_refused_before_it_takes_memory(
    written: Model,
) -> None:
    change_card(
        written,
        network={"name": "unet3d", "kwargs": {"features": [4096, 8192, 16384, 32768]}},
    )
    before = psutil.Process().memory_info().rss
    assert code_of(lambda: load_model(written.path).network) == "model-invalid"
    assert psutil.Process().memory_info().rss - before < 200 * 2**20


@pytest.mark.parametrize("name", network_names())
def test_every_network_can_be_outlined_without_memory(name: str) -> None:
    with torch.device("meta"):
        outline = create_network(name).state_dict()
    whole = create_network(name).state_dict()
    assert {k: v.shape for k, v in outline.items()} == {k: v.shape for k, v in whole.items()}
    assert all(v.is_meta for v in outline.values())


def test_network_outside_the_white_list_is_refused(written: Model) -> None:
    change_card(written, network={"name": "os.system", "kwargs": {"command": "true"}})
    assert code_of(lambda: load_model(written.path).network) == "network-unknown"


def test_faults_of_the_card_are_told_by_field(written: Model) -> None:
    change_card(written, spacing_mm=[0.8, -1, 0.8], threshold=2, colour="blue")
    with pytest.raises(ModelError) as caught:
        load_model(written.path)
    assert caught.value.code == "model-invalid"
    for field in ("spacing_mm.1", "threshold", "colour"):
        assert field in caught.value.message


def test_newer_format_asks_for_an_update(written: Model) -> None:
    change_card(written, format_version=3, a_field_of_the_future=True)
    assert code_of(lambda: load_model(written.path)) == "model-newer"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"imbalanceseg": 3}', "[" * 100_000, "\x00", '{"version": 1}']
)
def test_unreadable_metadata_is_invalid(written: Model, text: str) -> None:
    (written.path / "configs/metadata.json").write_text(text)
    assert code_of(lambda: load_model(written.path)) == "model-invalid"


def test_unknown_names_list_what_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_card: MakeCard, wingsnet: WingsNet
) -> None:
    monkeypatch.setattr(bundle, "_SHIPPED", tmp_path)
    assert list_models() == []
    write_bundle(tmp_path / "test-airway", wingsnet, make_card())
    (tmp_path / "__pycache__").mkdir()
    monkeypatch.chdir(tmp_path / "__pycache__")
    assert list_models() == ["test-airway"]
    assert load_model("test-airway").path == tmp_path / "test-airway"
    for name in ("airways", "", "../airway", str(tmp_path / "nothing")):
        with pytest.raises(ModelError) as caught:
            load_model(name)
        assert caught.value.code == "model-unknown"
        assert "test-airway" in caught.value.hint
    assert code_of(lambda: load_model(tmp_path)) == "model-invalid"


def test_shipped_models_are_whole() -> None:
    for name in list_models():
        model = load_model(name)
        assert model.name == name
        model.verify()


def test_reading_a_card_does_not_import_torch(written: Model) -> None:
    code = (
        "import sys; from imbalanceseg.models.bundle import load_model; "
        f"m = load_model({str(written.path)!r}); m.verify(); "
        "assert 'torch' not in sys.modules and 'monai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=_environment())


def _environment() -> dict[str, str]:
    paths = [p for p in sys.path if p]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
