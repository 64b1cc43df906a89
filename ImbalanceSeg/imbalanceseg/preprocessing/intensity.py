"""How intensities are scaled: the same for planning, training and inference."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator


class Normalization(BaseModel):
    """How intensities of a channel are scaled: ``(clip(x, low, high) - mean) / std``.

    Attributes:
        scheme: ``"ct"`` with the figures below for all cases; ``"z-score"`` with each image's own
            mean and standard deviation; ``"masked z-score"`` over its voxels that are not 0;
            ``"range"`` from ``low`` and ``high`` to 0 and 1.
        low: values below are clipped; with ``"ct"`` and ``"range"`` only.
        high: values above are clipped.
        mean: of foreground; with ``"ct"`` only.
        std: of foreground.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    scheme: Literal["ct", "z-score", "masked z-score", "range"]
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _complete(self) -> Normalization:
        needed = {"ct": ("low", "high", "mean", "std"), "range": ("low", "high")}
        for name in needed.get(self.scheme, ()):
            if getattr(self, name) is None:
                raise ValueError(f"{self.scheme} needs {name}")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("low must lie below high")
        return self

    @property
    def of_image(self) -> bool:
        """Whether the figures are each image's own."""
        return self.scheme in ("z-score", "masked z-score")


def normalized(
    channel: NDArray[np.float32], scheme: Normalization, inside: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Scale one channel as a plan or a model card says.

    Args:
        channel: any shape.
        scheme: how.
        inside: same shape; with ``"masked z-score"`` the rest becomes 0.
    """
    values = channel.astype(np.float32)
    if scheme.scheme == "range":
        assert scheme.low is not None
        assert scheme.high is not None
        values -= np.float32(scheme.low)
        values /= np.float32(scheme.high - scheme.low)
        return np.clip(values, 0, 1, out=values)
    if scheme.scheme == "ct":
        assert scheme.mean is not None
        assert scheme.std is not None
        return (np.clip(values, scheme.low, scheme.high) - scheme.mean) / np.float32(scheme.std)
    seen = values[inside] if scheme.scheme == "masked z-score" else values
    mean, std = float(seen.mean(dtype=np.float64)), float(seen.std(dtype=np.float64))
    scaled = (values - np.float32(mean)) / np.float32(max(std, 1e-8))
    if scheme.scheme == "masked z-score":
        scaled[~inside] = 0
    return scaled
