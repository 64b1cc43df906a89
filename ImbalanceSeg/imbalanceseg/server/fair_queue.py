"""Whose turn it is: clients take turns, so that many jobs of one do not hold up another."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque

from imbalanceseg.errors import InputError


class FairQueue:
    """Jobs that wait, by client; a client that was served goes to the end of the line.

    Args:
        most: of all clients.
        most_of_client: of one.
    """

    def __init__(self, most: int, most_of_client: int) -> None:
        self._most, self._most_of_client = most, most_of_client
        self._lines: OrderedDict[str, deque[str]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, client: str, job: str) -> None:
        """Let a job wait.

        Raises:
            InputError: ``queue-full``.
        """
        with self._changed:
            line = self._lines.setdefault(client, deque())
            if len(line) >= self._most_of_client or self._waiting() >= self._most:
                if not line:
                    del self._lines[client]
                raise InputError(
                    "queue-full",
                    f"{self._waiting()} jobs are waiting already.",
                    "Wait until some are done, or cancel them.",
                )
            line.append(job)
            self._changed.notify()

    def get(self, timeout: float) -> str | None:
        """The next job; None after so many seconds without one, or when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._closed, timeout)
            if self._closed or not self._lines:
                return None
            client, line = self._lines.popitem(last=False)
            job = line.popleft()
            if line:
                self._lines[client] = line
            return job

    def remove(self, job: str) -> bool:
        """Take a job out; False where it does not wait."""
        with self._changed:
            for client, line in self._lines.items():
                if job in line:
                    line.remove(job)
                    if not line:
                        del self._lines[client]
                    return True
            return False

    def position(self, job: str) -> int | None:
        """How many jobs will be served before it; None where it does not wait."""
        with self._changed:
            for order, line in enumerate(self._lines.values()):
                if job in line:
                    own = line.index(job)
                    others = list(self._lines.values())
                    ahead = sum(min(len(o), own + 1) for o in others[:order])
                    behind = sum(min(len(o), own) for o in others[order + 1 :])
                    return ahead + own + behind
            return None

    def close(self) -> None:
        """Give nothing out any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        with self._changed:
            return self._waiting()

    def _waiting(self) -> int:
        return sum(map(len, self._lines.values()))
