"""Which input sizes a network takes, said before it fails on one that it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from imbalanceseg.errors import InputError

_FARTHEST = 4096


def require_sides(x: Tensor, fits: Callable[[int, int], bool]) -> None:
    """Refuse an input with a side that does not fit, and say what to pad to.

    Args:
        x: ``[B, C, ...]``.
        fits: whether axis ``n`` of space may have ``side`` voxels.

    Raises:
        InputError: ``size-does-not-fit``.
    """
    size = tuple(int(n) for n in x.shape[2:])
    padded = tuple(_next(axis, side, fits) for axis, side in enumerate(size))
    if padded != size:
        raise InputError(
            "size-does-not-fit",
            f"The network cannot take an input of {_by(size)} voxels.",
            f"Pad it to {_by(padded)} voxels and crop the result.",
        )


def require_multiples(x: Tensor, multiples: Sequence[int], normalised: bool = True) -> None:
    """Refuse sides that are not multiples, and inputs that leave one voxel at the coarsest level.

    Args:
        x: ``[B, C, ...]``.
        multiples: for every axis of space, the product of its poolings.
        normalised: whether the coarsest level has a norm, which one voxel would make zero.

    Raises:
        InputError: ``size-not-multiple``, or ``size-too-small``: one voxel cannot be normalised.
    """
    size = tuple(int(n) for n in x.shape[2:])
    padded = tuple(max(1, -(-n // m)) * m for n, m in zip(size, multiples, strict=True))
    if size != padded:
        same = len(set(multiples)) == 1
        what = f"multiples of {multiples[0]}" if same else f"multiples of {_by(multiples)}"
        raise InputError(
            "size-not-multiple",
            f"The sides of the input {_by(size)} are not all {what}.",
            f"Pad it to {_by(padded)} voxels.",
        )
    if normalised and size == tuple(multiples):
        raise InputError(
            "size-too-small",
            f"An input of {_by(size)} voxels leaves one voxel at the coarsest scale, which cannot "
            "be normalised.",
            f"Pad at least one side to {2 * max(multiples)} voxels.",
        )


def unet_output_side(side: int, poolings: int, valid: bool) -> int:
    """Side of the output of a U-Net with two 3-wide convolutions a block; 0 when it does not fit.

    Every pooling must halve an even side. Valid convolutions take four voxels off at every block.
    """
    lost = 4 if valid else 0
    for level in range(poolings + 1):
        side -= lost
        deepest = level == poolings
        if side < 1 or (side % 2 and not deepest):
            return 0
        side = side if deepest else side // 2
    for _ in range(poolings):
        side = 2 * side - lost
    return max(side, 0)


def centre_crop(x: Tensor, like: Tensor) -> Tensor:
    """The middle of ``x``, as large in space as ``like``."""
    for axis in range(2, x.ndim):
        start = (x.shape[axis] - like.shape[axis]) // 2
        x = x.narrow(axis, start, like.shape[axis])
    return x


def _next(axis: int, side: int, fits: Callable[[int, int], bool]) -> int:
    return next((n for n in range(max(side, 1), _FARTHEST) if fits(axis, n)), side)


def _by(size: Sequence[int]) -> str:
    return " x ".join(str(n) for n in size)
