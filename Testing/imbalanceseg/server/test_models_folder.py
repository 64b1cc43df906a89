"""Models that lie in a folder: what can be used is offered, what cannot is told and left out."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import pytest

from imbalanceseg.errors import ModelError
from imbalanceseg.models.bundle import list_models
from imbalanceseg.server.models_folder import ModelsFolder
from imbalanceseg.server.shelf import ModelShelf
from imbalanceseg.server.store import Store


def test_every_model_in_it_is_offered_and_the_others_are_told_once(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "models"
    models = ModelsFolder(folder)
    assert not models.models()
    for name in ("first", "second-one", "Not A Name", ".half.partial"):
        shutil.copytree(bundle, folder / name)
    (folder / "empty").mkdir()
    (folder / "damaged" / "configs").mkdir(parents=True)
    (folder / "damaged" / "configs" / "metadata.json").write_text("{")
    (folder / "README.md").write_text("Mine.")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert list(models.models()) == ["first", "second-one"]
    assert sorted(record.getMessage() for record in caplog.records) == [
        "Not A Name in the folder of models is left out (model-name).",
        "damaged in the folder of models is left out (model-invalid).",
        "empty in the folder of models is left out (model-invalid).",
    ]


def test_models_come_and_go_while_the_server_runs(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    models = ModelsFolder(folder)
    shutil.copytree(bundle, folder / "mine")
    before = models.models()["mine"]
    assert models.models()["mine"] is before
    os.utime(folder / "mine" / "configs" / "metadata.json", (1, 1))
    assert models.models()["mine"] is not before
    shutil.rmtree(folder / "mine")
    assert not models.models()


def test_a_name_that_is_taken_stays_with_whom_it_was(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder, name in (("a", "airway"), ("a", "bright"), ("a", "mine"), ("b", "mine")):
        shutil.copytree(bundle, tmp_path / folder / name)
    store = Store(tmp_path / "data")
    try:
        shelf = ModelShelf(store, [bundle], [tmp_path / "a", tmp_path / "b"])
        assert shelf.place("mine")["path"] == str(tmp_path / "a" / "mine")
        assert shelf.place("bright")["path"] == str(bundle)
        assert "bundles" in shelf.place("airway")["path"]
        names = [model["id"] for model in shelf.summaries()]
        assert names == [*list_models(), "bright", "mine"]
        assert "bright in the folder of models is left out (name-taken)." in caplog.messages
        with pytest.raises(ModelError) as refused:
            shelf.adapted_folder("mine")
        assert refused.value.code == "model-not-adapted"
    finally:
        store.close()
