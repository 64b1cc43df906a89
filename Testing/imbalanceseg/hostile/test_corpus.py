"""The inputs of campaigns that took longest, or that a reader once fell over: kept for good.

`python campaign.py COUNT WORST READER...` adds to them. A file is named by its reader. Weights are
written by hand: real ones would be large, and what breaks a reader is in their header.
"""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

import pytest

from imbalanceseg.errors import ImbalanceSegError

from .commands import COMMANDS
from .readers import READERS

CORPUS = sorted(Path(__file__).with_name("corpus").iterdir())
LIMIT_S = 10.0


@pytest.mark.parametrize("kept", CORPUS, ids=lambda path: path.name)
def test_what_was_worst_ends_in_a_result_or_a_sentence(kept: Path, tmp_path: Path) -> None:
    reader = {**READERS, **COMMANDS}[kept.name.rpartition("-")[0]]
    place = tmp_path / "seeds"
    place.mkdir()
    good = tmp_path / f"input{reader.suffix}"
    good.write_bytes(reader.seeds(place)[0])
    reader.read(good)
    shutil.copy(kept, good)
    began = time.perf_counter()
    with suppress(ImbalanceSegError):
        reader.read(good)
    assert time.perf_counter() - began < LIMIT_S


def test_the_corpus_is_tiny_and_of_every_kind() -> None:
    assert len(CORPUS) >= 50
    assert sum(path.stat().st_size for path in CORPUS) < 300_000
    covered = {path.name.rpartition("-")[0] for path in CORPUS}
    assert covered >= READERS.keys()
