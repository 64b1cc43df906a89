"""Freed blocks are kept inside, and given back afterwards; the gain is for benchmarks to tell."""

from __future__ import annotations

import pytest

from imbalanceseg.inference import allocator
from imbalanceseg.inference.allocator import kept_memory


class RecordingGlibc:
    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []

    def mallopt(self, setting: int, value: int) -> int:
        self.calls.append(("mallopt", setting, value))
        return 1

    def malloc_trim(self, kept: int) -> int:
        self.calls.append(("malloc_trim", kept, 0))
        return 1


@pytest.fixture
def glibc(monkeypatch):
    recorder = RecordingGlibc()
    monkeypatch.setattr(allocator, "_glibc", lambda: recorder)
    return recorder


def test_blocks_of_any_size_are_kept_inside_and_given_back_at_the_end(glibc):
    with kept_memory():
        inside = list(glibc.calls)
    assert {setting for _, setting, value in inside if value == 2**31 - 1} == {-1, -3}
    after = glibc.calls[len(inside) :]
    assert {setting for name, setting, _ in after if name == "mallopt"} == {-1, -3}
    assert all(value <= 64 * 2**20 for name, _, value in after if name == "mallopt")
    assert after[-1][0] == "malloc_trim"


def test_an_error_inside_comes_out_and_the_memory_is_given_back(glibc):
    with pytest.raises(ZeroDivisionError), kept_memory():
        raise ZeroDivisionError
    assert glibc.calls[-1][0] == "malloc_trim"


@pytest.mark.parametrize("platform", ["darwin", "win32", "linux"])
def test_without_glibc_the_work_is_done_all_the_same(monkeypatch, platform):
    monkeypatch.setattr(allocator.sys, "platform", platform)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    done = []
    with kept_memory():
        done.append(platform)
    assert done == [platform]
    assert allocator._glibc() is None


@pytest.mark.skipif(allocator._glibc() is None, reason="the C library is not glibc")
def test_glibc_accepts_what_it_is_told():
    libc = allocator._glibc()
    assert libc is not None
    try:
        for setting in (allocator._MMAP_THRESHOLD, allocator._TRIM_THRESHOLD):
            assert libc.mallopt(setting, allocator._NEVER) == 1
    finally:
        with kept_memory():
            pass
