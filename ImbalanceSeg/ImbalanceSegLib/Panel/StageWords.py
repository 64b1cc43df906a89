"""What the engine does, in words for the person who waits."""

from __future__ import annotations

from slicer.i18n import tr as _

from imbalanceseg.progress import ProgressEvent

QUIET_SECONDS = 10.0
"""So long without news of the engine is worth a word, in seconds."""


def wordsOfStart(kind: str) -> str:
    """What is said until the first news of a kind of work comes."""
    return {
        "segment": _("Starting the engine..."),
        "adapt": _("Sending what was painted..."),
        "click": _("Looking around the point..."),
        "suggest": _("Looking for the best slices..."),
        "export": _("Exporting..."),
        "find": _("Asking the PACS..."),
        "get": _("Asking the PACS..."),
        "keep": _("Fetching the model..."),
        "connect": _("Asking the engine..."),
        "install": _("Looking for what is missing..."),
    }[kind]


def wordsOfProgress(event: ProgressEvent) -> str:
    """What the engine does now."""
    if event.stage == "finetune":
        return _wordsOfLearning(event)
    words = {
        "upload": _("Sending the volume to the engine"),
        "wait": _("Waiting for other work of the engine"),
        "begin": _("Loading the model"),
        "read": _("Reading the volume"),
        "prepare": _("Finding the region and resampling"),
        "tiles": _("Looking through the volume"),
        "restore": _("Placing the result on the volume"),
        "write": _("Fetching the result"),
        "get": _("Fetching the scan"),
    }.get(event.stage)
    if words is None:
        return event.message or event.stage
    counted = {
        "tiles": _("{stage}: part {done} of {total}."),
        "get": _("{stage}: image {done} of {total}."),
    }.get(event.stage)
    if counted is not None and event.total > 1:
        return counted.format(stage=words, done=event.done, total=event.total)
    return _("{stage}...").format(stage=words)


def wordsOfQuiet(words: str, quietSeconds: float) -> str:
    """What the engine does, and for how long it has not told of it.

    Args:
        words: what it does.
        quietSeconds: time since the last news, in seconds.
    """
    if quietSeconds < QUIET_SECONDS:
        return words
    return _("{stage} No news for {seconds:.0f} s.").format(stage=words, seconds=quietSeconds)


def _wordsOfLearning(event: ProgressEvent) -> str:
    loss, dice = event.metrics.get("loss"), event.metrics.get("held_out_dice")
    if loss is None:
        return _("Learning...")
    if dice is None:
        return _("Learning: loss {loss:.3f}.").format(loss=loss)
    return _("Learning: loss {loss:.3f}, Dice on slices kept aside {dice:.2f}.").format(
        loss=loss, dice=dice
    )
