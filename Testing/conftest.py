"""Fixtures that tests of all parts share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real scans; tests that need it are skipped where it is absent."""
    value = os.environ.get("IMBALANCESEG_DATA")
    if not value:
        pytest.skip("IMBALANCESEG_DATA is not set: no real scans to test with.")
    folder = Path(value)
    if not folder.is_dir():
        pytest.skip(f"IMBALANCESEG_DATA names {folder}, which is not a folder.")
    return folder
