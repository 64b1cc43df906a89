"""Damaged and hostile files end in a result or in a sentence: never a crash, a hang, or too much.

``IMBALANCESEG_CAMPAIGN`` says how many are tried of each reader, and a tenth of that of each
command; ``make campaign`` tries 5,000.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from .campaign import LIMIT_S, run_campaign
from .commands import COMMANDS
from .mutations import mutated
from .readers import READERS

COUNT = int(os.environ.get("IMBALANCESEG_CAMPAIGN", "40"))
# A command does its work where a file is good enough, which takes longer than reading.
OF_COMMANDS = max(10, COUNT // 10)
PEAK_MIB = 4096

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Limits memory as Linux does.")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("reader", [*READERS, *COMMANDS])
def test_every_input_ends_in_a_result_or_a_sentence(reader: str) -> None:
    count = COUNT if reader in READERS else OF_COMMANDS
    found = run_campaign(reader, count)
    assert not found.faults
    assert sum(found.outcomes.values()) == count
    # Changes are neither all harmless nor all deadly; commands are tried too seldom to tell.
    assert len(found.outcomes) > 1 or reader in COMMANDS
    assert found.slowest[0] < LIMIT_S
    assert found.peak_mib < PEAK_MIB
    print(f"{reader}: {dict(found.outcomes.most_common())}, {found.slowest}, {found.peak_mib} MiB")


def test_the_same_seed_damages_the_same(tmp_path: Path) -> None:
    seeds = READERS["segments"].seeds(tmp_path)
    once, again = (
        [mutated(seeds, np.random.default_rng([0, n])) for n in range(50)] for _ in range(2)
    )
    assert once == again
    assert len(set(once)) > 45
