from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from imbalanceseg.preprocessing.intensity import Normalization, normalized


@pytest.mark.parametrize("scheme", ["z-score", "masked z-score"])
def test_scaled_images_have_mean_0_and_deviation_1(scheme: Any) -> None:
    values = np.random.default_rng(0).gamma(2, 300, (9, 10, 11)).astype(np.float32)
    inside = np.zeros(values.shape, bool)
    inside[2:8, 2:8] = True
    found = normalized(values, Normalization(scheme=scheme), inside)
    seen = found[inside] if scheme == "masked z-score" else found
    assert float(seen.mean()) == pytest.approx(0, abs=1e-5)
    assert float(seen.std()) == pytest.approx(1, abs=1e-5)
    if scheme == "masked z-score":
        assert not found[~inside].any()
    flat = normalized(np.full_like(values, 3), Normalization(scheme=scheme), inside)
    assert np.isfinite(flat).all()


def test_ct_is_clipped() -> None:
    scheme = Normalization(scheme="ct", low=-1000, high=400, mean=-300, std=350)
    found = normalized(np.float32([-3000, -1000, -300, 400, 9000]), scheme, np.ones(5, bool))
    np.testing.assert_allclose(found, [-2, -2, 0, 2, 2], rtol=1e-6)


def test_a_range_becomes_0_to_1() -> None:
    scheme = Normalization(scheme="range", low=-1000, high=400)
    found = normalized(np.float32([-3000, -1000, -300, 400, 9000]), scheme, np.ones(5, bool))
    np.testing.assert_allclose(found, [0, 0, 0.5, 1, 1], rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    "figures",
    [
        {"scheme": "range", "low": 0},
        {"scheme": "range", "low": 1, "high": 1},
        {"scheme": "ct", "low": -1000, "high": 400, "mean": 0},
        {"scheme": "ct", "low": -1000, "high": 400, "mean": 0, "std": 0},
        {"scheme": "rank"},
    ],
)
def test_figures_that_make_no_scaling_are_refused(figures: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Normalization(**figures)
