"""Errors carry a code, one sentence and a hint, and survive the way between processes."""

from __future__ import annotations

import pickle

import pytest

from imbalanceseg import errors


def test_text_has_code_message_and_hint() -> None:
    error = errors.InputError("image-not-3d", "The image is flat.", "Give a volume.")
    assert str(error) == "error[image-not-3d]: The image is flat.\nhint: Give a volume."


def test_text_without_hint_is_one_line() -> None:
    assert str(errors.ModelError("x", "Broken.")) == "error[x]: Broken."


@pytest.mark.parametrize(
    "kind", ["InputError", "GeometryError", "ModelError", "OutputError", "DependencyError"]
)
def test_every_kind_is_caught_as_the_base(kind: str) -> None:
    with pytest.raises(errors.ImbalanceSegError) as caught:
        raise getattr(errors, kind)("a-code", "A sentence.", "A hint.")
    assert (caught.value.code, caught.value.message, caught.value.hint) == (
        "a-code",
        "A sentence.",
        "A hint.",
    )


@pytest.mark.parametrize("kind", [errors.InputError, errors.GeometryError, errors.Cancelled])
def test_errors_survive_pickling(kind: type[errors.ImbalanceSegError]) -> None:
    error = pickle.loads(pickle.dumps(kind("a-code", "A sentence.", "A hint.")))
    assert type(error) is kind
    assert (error.code, error.message, error.hint) == ("a-code", "A sentence.", "A hint.")


def test_cancelled_needs_no_arguments() -> None:
    assert errors.Cancelled().code == "cancelled"
