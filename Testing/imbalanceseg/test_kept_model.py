"""A model on its way from an engine into a folder: all of it arrives, and nothing else does."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from imbalanceseg.client.http import EngineError
from imbalanceseg.client.kept_model import MOST_BYTES, unpack_model
from imbalanceseg.errors import InputError, ModelError
from imbalanceseg.server.model_archive import files_of, zipped

BUNDLE = {
    "configs/metadata.json": b"{}",
    "docs/README.md": b"# Card\n",
    "LICENSE": b"",
    "models/model.safetensors": os.urandom(3 << 20),
    "models/model_fold1.safetensors": bytes(5 << 20),
}


def archive_of(files: dict[str, bytes]) -> io.BytesIO:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        for name, content in files.items():
            written.writestr(name, content)
    return archive


def files_in(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_a_bundle_arrives_as_it_was(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    for name, content in BUNDLE.items():
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_bytes(content)
    (bundle / "docs" / "link.md").symlink_to("/etc/passwd")
    pieces = list(zipped(bundle, files_of(bundle, 1 << 30)))
    assert len(pieces) > 2
    kept = unpack_model(io.BytesIO(b"".join(pieces)), tmp_path, "kept-1")
    assert kept == tmp_path / "kept-1"
    assert files_in(kept) == BUNDLE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "kept-1"]
    with pytest.raises(ModelError) as refused:
        files_of(bundle, 1 << 20)
    assert refused.value.code == "model-too-large"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "configs/../../evil.json",
        "/etc/evil.json",
        "C:/evil.json",
        "configs\\..\\evil.json",
        "configs/.hidden.json",
        "configs/run.py",
        "models/model.pt",
        "models/deep/model.safetensors",
        "evil",
        "configs/",
        "LICENSE/evil.md",
        "license",
    ],
)
def test_files_that_no_model_has_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    with pytest.raises(EngineError) as refused:
        unpack_model(archive_of({**BUNDLE, name: b"evil"}), folder, "kept")
    assert refused.value.code == "model-archive"
    assert not list(folder.iterdir())
    assert list(tmp_path.iterdir()) == [folder]


def test_an_archive_that_is_none_or_damaged_is_refused(tmp_path: Path) -> None:
    whole = archive_of(BUNDLE).getvalue()
    at = whole.index(BUNDLE["models/model.safetensors"][:100])
    flipped = whole[:at] + b"\xff\x00\xff" + whole[at + 3 :]
    without_card = {k: v for k, v in BUNDLE.items() if k != "configs/metadata.json"}
    many = {f"docs/note{number}.md": b"" for number in range(200)}
    for archive in (
        io.BytesIO(b"no zip"),
        io.BytesIO(whole[: len(whole) // 2]),
        io.BytesIO(flipped),
        archive_of(without_card),
        archive_of(BUNDLE | many),
    ):
        with pytest.raises(EngineError) as refused:
            unpack_model(archive, tmp_path, "kept")
        assert refused.value.code == "model-archive"
        assert not list(tmp_path.iterdir())


def test_a_bomb_is_not_unfolded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("configs/metadata.json", b"{}")
        written.writestr("models/model.safetensors", bytes(1 << 20))
    monkeypatch.setattr("imbalanceseg.client.kept_model.MOST_BYTES", 1 << 20)
    assert MOST_BYTES > 1 << 30
    with pytest.raises(EngineError, match="too large"):
        unpack_model(archive, tmp_path, "kept")
    assert not list(tmp_path.iterdir())


def test_a_link_becomes_a_plain_file(tmp_path: Path) -> None:
    archive = archive_of(BUNDLE)
    with zipfile.ZipFile(archive, "a") as written:
        link = zipfile.ZipInfo("docs/link.md")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        written.writestr(link, "/etc/passwd")
    kept = unpack_model(archive, tmp_path, "kept")
    assert not (kept / "docs" / "link.md").is_symlink()
    assert (kept / "docs" / "link.md").read_bytes() == b"/etc/passwd"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(InputError) as refused:
        unpack_model(archive_of(BUNDLE), tmp_path, "kept")
    assert refused.value.code == "model-exists"
    assert not list((tmp_path / "kept").iterdir())


@pytest.mark.parametrize("name", ["", "..", "a/b", "My model", "-a", "a--b", "a" * 81, "ä"])
def test_a_name_that_no_model_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as refused:
        unpack_model(archive_of(BUNDLE), tmp_path, name)
    assert refused.value.code == "model-name"
    assert not list(tmp_path.iterdir())
