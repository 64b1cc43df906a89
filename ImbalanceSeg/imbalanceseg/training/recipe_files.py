"""Recipes in YAML files: those that are shipped, and anyone's own."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from imbalanceseg.errors import InputError
from imbalanceseg.training.marked_yaml import MarkedValues, Place, named, read_marked_yaml, shown
from imbalanceseg.training.recipe import Recipe
from imbalanceseg.training.recipe_checks import Fault, allowed_by, choice_faults, nearest

_SHIPPED = Path(__file__).parent / "recipes"
_ENDINGS = (".yaml", ".yml")


class RecipeFaultsError(InputError):
    """All that is wrong with a recipe, at once.

    Attributes:
        recipe: name of the file.
        faults: ``(line, sentence)`` for each, in the order of the file.
    """

    def __init__(self, recipe: str, faults: Sequence[tuple[int, str]]) -> None:
        lines = [f"{recipe} line {line}: {sentence}" for line, sentence in faults]
        super().__init__("recipe-faults", "\n".join(lines), "Docs/recipes.md explains every key.")
        self.recipe, self.faults = recipe, list(faults)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.recipe, self.faults)


def recipe_names() -> list[str]:
    """Names of the shipped recipes, sorted."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yaml"))


def read_recipe(name_or_path: str | os.PathLike[str]) -> Recipe:
    """A recipe by its name, or from a YAML file.

    Args:
        name_or_path: one of :func:`recipe_names`, or a path; a shipped name comes first.

    Raises:
        RecipeFaultsError: every fault with its line and what is allowed there.
        InputError: ``recipe-unknown``; or the file is missing, too large or not YAML.
    """
    path = _path(name_or_path)
    found = read_marked_yaml(path)
    faults = choice_faults(found.values)
    recipe = None
    try:
        # Strict JSON: lists may be tuples, but words are not numbers and true is not 1.
        recipe = Recipe.model_validate_json(json.dumps(found.values), strict=True)
    except ValidationError as error:
        faults += _schema_faults(error)
    if recipe is None or faults or found.faults:
        raise RecipeFaultsError(path.name, _in_order(found, faults))
    return recipe


def _path(name_or_path: str | os.PathLike[str]) -> Path:
    given = os.fspath(name_or_path)
    if given in recipe_names():
        return _SHIPPED / f"{given}.yaml"
    path = Path(given)
    if path.suffix.lower() in _ENDINGS or path.name != given or os.path.exists(given):
        return path
    raise InputError(
        "recipe-unknown",
        f"There is no recipe {shown(given)}; {nearest(given, recipe_names())}.",
        f"Recipes are {', '.join(recipe_names())}, or a path that ends in .yaml.",
    )


def _in_order(found: MarkedValues, faults: Sequence[Fault]) -> list[tuple[int, str]]:
    """All faults by line, and none of what stands in for a value that could not be read."""
    lines = [(found.line_of(place), text) for place, text in faults if place not in found.unread]
    return sorted(dict.fromkeys([*found.faults, *lines]))


def _schema_faults(error: ValidationError) -> list[Fault]:
    return [_fault(tuple(one["loc"]), one) for one in error.errors(include_url=False)]


def _fault(place: Place, one: Any) -> Fault:
    if one["type"] == "extra_forbidden":
        keys = list(_schema_of(place[:-1]).get("properties", ()))
        return place, f"{named(place)} is unknown; {nearest(str(place[-1]), keys)}."
    if one["type"] == "value_error":
        return place, f"{named(place)}: {one['ctx']['error']}."
    if one["type"] == "missing":
        # Of a list that is too short: the whole of it is told of.
        place = place[:-1]
        return place, f"{named(place)} is too short; allowed: {_allowed(place)}."
    return place, f"{named(place)} is {shown(one['input'])}; allowed: {_allowed(place)}."


def _allowed(place: Place) -> str:
    return allowed_by(_schema_of(place), _schema()["$defs"])


def _schema_of(place: Place) -> dict[str, Any]:
    schema = _schema()
    for step in place:
        schema = _resolved(schema)
        if isinstance(step, int):
            several = schema.get("prefixItems")
            schema = several[step] if several else schema["items"]
        else:
            schema = schema["properties"][step]
    return _resolved(schema) if "$ref" in schema else schema


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Behind references, and what is not null of what may be."""
    for one in schema.get("anyOf", ()):
        if one.get("type") != "null":
            return _resolved(one)
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _resolved(_schema()["$defs"][name])
    return schema


@cache
def _schema() -> dict[str, Any]:
    return Recipe.model_json_schema()
