"""Previews of the client: the latest is shown, and none after the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import SimpleITK as sitk

from imbalanceseg.client.http import EngineError
from imbalanceseg.client.previews import Previews
from imbalanceseg.client.task import EngineTask


class Poller:
    """Delivers when it is told to."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def later(self, deliver: Callable[[], None]) -> None:
        self.due.append(deliver)

    def poll(self) -> int:
        due, self.due = self.due, []
        for deliver in due:
            deliver()
        return len(due)


class Engine:
    """Has one more preview whenever it is asked; the first question waits."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = threading.Event()
        self.fails = False

    def fetch(self) -> sitk.Image:
        self.asked += 1
        number = self.asked
        assert self.may_answer.wait(10)
        if self.fails:
            raise EngineError("preview-unknown", "There is none.")
        return sitk.Image(number, 1, 1, sitk.sitkUInt8)


@pytest.fixture
def engine() -> Engine:
    return Engine()


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not what():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_only_the_latest_is_shown(engine: Engine) -> None:
    poller, shown = Poller(), []
    task = EngineTask(poller)
    previews = Previews(
        task, engine.fetch, lambda image: shown.append(image.GetWidth()), poller.later
    )
    previews.announce()
    until(lambda: engine.asked == 1)
    for _ in range(5):
        # While one is on its way, the others become one more question.
        previews.announce()
    engine.may_answer.set()
    until(lambda: engine.asked == 2 and not previews._fetching)
    assert len(poller.due) == 1
    poller.poll()
    assert shown == [2]
    previews.announce()
    until(lambda: poller.due)
    poller.poll()
    assert shown == [2, 3]


@pytest.mark.parametrize("end", ["over", "cancelled"])
def test_none_is_shown_after_the_end(engine: Engine, end: str) -> None:
    poller, shown = Poller(), []
    task = EngineTask(poller)
    previews = Previews(task, engine.fetch, shown.append, poller.later)
    engine.may_answer.set()
    previews.announce()
    until(lambda: poller.due)
    if end == "over":
        task.end(None, None)
    else:
        task.want_cancelled()
    poller.poll()
    previews.announce()
    until(lambda: not previews._fetching)
    assert not shown
    assert engine.asked == 1


def test_one_that_has_gone_does_not_keep_the_next_from_coming(engine: Engine) -> None:
    poller, shown = Poller(), []
    previews = Previews(EngineTask(poller), engine.fetch, shown.append, poller.later)
    engine.may_answer.set()
    engine.fails = True
    previews.announce()
    until(lambda: engine.asked == 1 and not previews._fetching)
    engine.fails = False
    previews.announce()
    until(lambda: poller.due)
    poller.poll()
    assert len(shown) == 1
