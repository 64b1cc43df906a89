"""Batches made ahead of the step that needs them, in threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class Prefetcher(Generic[Batch]):
    """``make(iteration)`` for the next few iterations, while the present one is computed.

    Threads, not processes: what is slow in making a batch releases the lock, and arrays need no
    copy. ``make`` must depend on the iteration alone.

    Args:
        make: called from several threads.
        workers: threads.
        ahead: batches that may lie ready.
    """

    def __init__(self, make: Callable[[int], Batch], workers: int = 1, ahead: int = 2) -> None:
        self._make = make
        self._ahead = max(workers, ahead)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="patches")
        self._waiting: dict[int, Future[Batch]] = {}

    def __enter__(self) -> Prefetcher[Batch]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, iteration: int) -> Batch:
        """The batch of an iteration; those after it are begun."""
        for number in range(iteration, iteration + self._ahead + 1):
            if number not in self._waiting:
                self._waiting[number] = self._pool.submit(self._make, number)
        return self._waiting.pop(iteration).result()

    def forget(self) -> None:
        """Drop what lies ready, because ``make`` has changed."""
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()
