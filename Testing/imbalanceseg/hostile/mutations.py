"""Files that were good once: bits flipped, cut, words and numbers replaced, pieces exchanged."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence

import numpy as np

Draw = np.random.Generator

_HEAD = 400
_TEXT_HEAD = 4096
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_TOKENS = (
    b"0", b"-1", b"1", b"2", b"3", b"4", b"255", b"65536", b"2147483647", b"2147483648",
    b"4294967295", b"9223372036854775807", b"1" + b"0" * 40, b"nan", b"NaN", b"inf", b"-inf",
    b"1e-300", b"1e300", b"0.0", b"-0.0", b"1e-12", b"", b"x", b"null", b"true", b"[]", b"{}", b'"',
    b"\x00", b"\xff",
)  # fmt: skip
_WHOLE = (
    0, 1, -1, 2, 3, 4, 7, 16, 64, 127, 128, 255, 256, 511, 512, 768, 1024, 1792, 2304, 32767,
    -32768,
)  # fmt: skip
_REAL = (0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-38, 1e38, 1e-12, 1e6)


def mutated(seeds: Sequence[bytes], draw: Draw) -> bytes:
    """One of the seeds after one to three changes."""
    data = bytearray(seeds[draw.integers(len(seeds))])
    for _ in range(draw.integers(1, 4)):
        change = _CHANGES[draw.integers(len(_CHANGES))]
        data = change(data, seeds, draw)
    return bytes(data)


def _place(size: int, draw: Draw) -> int:
    """Seven times in ten in the header."""
    near = min(size, _HEAD) if draw.random() < 0.7 else size
    return int(draw.integers(max(1, near)))


def _flipped(data: bytearray, seeds: Sequence[bytes], draw: Draw) -> bytearray:
    for _ in range(draw.integers(1, 17)):
        if data:
            data[_place(len(data), draw)] ^= 1 << draw.integers(8)
    return data


def _cut(data: bytearray, seeds: Sequence[bytes], draw: Draw) -> bytearray:
    return data[: _place(len(data), draw)]


def _word(data: bytearray, seeds: Sequence[bytes], draw: Draw) -> bytearray:
    order = "<" if draw.random() < 0.7 else ">"
    kind = "hiqfd"[draw.integers(5)]
    values: Sequence[float] = _REAL if kind in "fd" else _WHOLE
    value = values[draw.integers(len(values))]
    packed = struct.pack(order + kind, value if kind in "fd" else int(value))
    start = _place(len(data), draw) // 2 * 2
    data[start : start + len(packed)] = packed
    return data


def _number(data: bytearray, seeds: Sequence[bytes], draw: Draw) -> bytearray:
    head = bytes(data[:_TEXT_HEAD])
    found = list(_NUMBER.finditer(head))
    if found:
        one = found[draw.integers(len(found))]
        data[one.start() : one.end()] = _TOKENS[draw.integers(len(_TOKENS))]
    return data


def _spliced(data: bytearray, seeds: Sequence[bytes], draw: Draw) -> bytearray:
    source = seeds[draw.integers(len(seeds))]
    start, length = _place(len(source), draw), int(draw.integers(1, 64))
    target = _place(len(data), draw)
    data[target : target + (length if draw.random() < 0.5 else 0)] = source[start : start + length]
    return data


def _other_head(data: bytearray, seeds: Sequence[bytes], draw: Draw) -> bytearray:
    source = seeds[draw.integers(len(seeds))]
    length = int(draw.integers(1, _HEAD))
    return bytearray(source[:length]) + data[length:]


def _line(data: bytearray, seeds: Sequence[bytes], draw: Draw) -> bytearray:
    """A line of the header twice, or nowhere."""
    lines = bytes(data[:_TEXT_HEAD]).split(b"\n")
    n = int(draw.integers(len(lines)))
    lines[n : n + 1] = [lines[n]] * (2 if draw.random() < 0.5 else 0)
    return bytearray(b"\n".join(lines)) + data[_TEXT_HEAD:]


def _longer(data: bytearray, seeds: Sequence[bytes], draw: Draw) -> bytearray:
    return data + bytearray(draw.bytes(int(draw.integers(1, 2000))))


_CHANGES: tuple[Callable[[bytearray, Sequence[bytes], Draw], bytearray], ...] = (
    _flipped, _cut, _word, _word, _number, _number, _spliced, _other_head, _line, _longer,
)  # fmt: skip
