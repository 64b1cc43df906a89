"""Finding out what the engine is and offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Logic.Activity import Activity, FinishedCallback


def startConnect(link: EngineLink, onFinished: FinishedCallback) -> Activity:
    """Start or reach the engine and return at once.

    Args:
        link: to the engine.
        onFinished: receives the outcome; its value is what :func:`connect` returns.
    """
    return Activity(link, "connect", onFinished).begin(
        lambda callbacks: link.client.hello(**callbacks)
    )


def connect(link: EngineLink) -> Mapping[str, Any]:
    """Start or reach the engine and wait for its answer; for scripts.

    Returns:
        What the engine says of itself: ``"version"``, ``"device"``, ``"models"``, ...

    Raises:
        RuntimeError: it cannot be started or reached; the text says why.
    """
    info: Mapping[str, Any] = startConnect(link, lambda outcome: None).wait()
    return info
