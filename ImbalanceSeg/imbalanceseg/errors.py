"""Errors that reach a person: a stable code, one sentence, and a hint what to do."""

from __future__ import annotations


class ImbalanceSegError(Exception):
    """Base of every error the engine raises on purpose.

    Args:
        code: stable, kebab-case identifier (``"image-not-3d"``); documented, never translated.
        message: one sentence that says what is wrong, with the offending value in it.
        hint: one sentence that says what the user can do about it; may be empty.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        text = f"error[{self.code}]: {self.message}"
        return f"{text}\nhint: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.code, self.message, self.hint)


class InputError(ImbalanceSegError):
    """The image, series, annotation or argument given by the user cannot be used."""


class GeometryError(ImbalanceSegError):
    """Two images that must share a grid do not, or a grid is not usable."""


class ModelError(ImbalanceSegError):
    """A model bundle is unknown, damaged or unsuitable for the request."""


class OutputError(ImbalanceSegError):
    """A result cannot be written."""


class DependencyError(ImbalanceSegError):
    """An optional package or program that the request needs is not installed."""


class Cancelled(ImbalanceSegError):
    """The user stopped the work; nothing half-written is left behind."""

    def __init__(
        self,
        code: str = "cancelled",
        message: str = "The work was cancelled.",
        hint: str = "",
    ) -> None:
        super().__init__(code, message, hint)
