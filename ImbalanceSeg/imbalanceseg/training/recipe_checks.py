"""What of a recipe a schema cannot say: networks, losses, and what fits what."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from imbalanceseg.losses import create_loss, loss_names
from imbalanceseg.networks import network_class, network_names
from imbalanceseg.training.marked_yaml import Place, named, shown

Fault = tuple[Place, str]
"""Where it is, and a sentence."""

PLAN = "plan"
_PLANNED = "nnunet"
_DECIDED_ELSEWHERE = {"in_channels", "deep_supervision"}
_NETWORK_OF = {"deep": (_PLANNED, PLAN), "group": ("wingsnet",), "attention": ("unet2d5",)}


def allowed_by(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in words.

    Args:
        schema: of the value, as pydantic writes it.
        definitions: what its references point to.
    """
    if "$ref" in schema:
        return allowed_by(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return " or ".join(allowed_by(one, definitions) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    kind = schema.get("type")
    if kind in ("number", "integer"):
        return ("a whole number" if kind == "integer" else "a number") + _range(schema)
    if kind == "array":
        item = (schema.get("prefixItems") or [schema.get("items", {})])[0]
        least, most = schema.get("minItems"), schema.get("maxItems")
        count = f" of {least}" if least is not None else ""
        if count and most != least:
            count = f" of at least {least}" if most is None else f"{count} or {most}"
        return f"a list{count}, each item {allowed_by(item, definitions)}"
    if kind == "object":
        keys = ", ".join(schema.get("properties", ()))
        return f"a mapping with the keys {keys}" if keys else "a mapping"
    return {"boolean": "true, false", "string": "text", "null": "null"}.get(str(kind), "any value")


def nearest(word: str, known: list[str]) -> str:
    """The known words most like one, as the end of a sentence; all of them when none is like it."""
    close = get_close_matches(word, known, n=3, cutoff=0.6)
    return f"nearest allowed: {', '.join(close)}" if close else f"allowed: {', '.join(known)}"


def choice_faults(values: Mapping[str, Any]) -> list[Fault]:
    """Faults of network, loss and supervision; what the schema refuses is passed over.

    Nothing is built: a value that only a constructor knows to be wrong is found when it is.

    Args:
        values: of a recipe, checked by the schema or not.
    """
    network, loss, supervision = (
        _mapping(values.get(key)) for key in ("network", "loss", "supervision")
    )
    faults = _name_faults(("network", "name"), network, network_names())
    if not faults:
        faults = _network_faults(network)
    lost = _name_faults(("loss", "name"), loss, loss_names())
    faults += lost or _loss_faults(loss)
    return faults + _supervision_faults(network, supervision)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _name_faults(place: Place, choice: Mapping[str, Any], known: list[str]) -> list[Fault]:
    name = choice.get("name", PLAN)
    if not isinstance(name, str) or name in (PLAN, *known):
        return []
    listed = ", ".join([PLAN, *known])
    return [(place, f"{named(place)} is {shown(name)}; allowed: {listed}.")]


def _network_faults(network: Mapping[str, Any]) -> list[Fault]:
    name, settings = network.get("name", PLAN), _mapping(network.get("settings"))
    if not isinstance(name, str):
        return []
    constructor = network_class(_PLANNED if name == PLAN else name)
    known = set(inspect.signature(constructor).parameters) - _DECIDED_ELSEWHERE
    if name != PLAN and network.get("width", 1) != 1:
        sentence = f"network.width is {shown(network['width'])}; allowed with {name}: 1."
        return [(("network", "width"), sentence)]
    return _setting_faults(("network", "settings"), settings, constructor.__init__, known)


def _loss_faults(loss: Mapping[str, Any]) -> list[Fault]:
    name, settings = loss.get("name", PLAN), _mapping(loss.get("settings"))
    weight, place = loss.get("weight", "none"), ("loss", "weight")
    weighted = isinstance(weight, str) and weight != "none"
    if not isinstance(name, str) or name == PLAN:
        end = "allowed where the plan chooses: nothing"
        inner = [("loss", "settings", key) for key in settings]
        faults: list[Fault] = [(one, f"{named(one)} is unknown; {end}.") for one in inner]
        if weighted:
            sentence = f"loss.weight is {shown(weight)}; allowed where the plan chooses: none."
            faults.append((place, sentence))
        return faults
    function = create_loss(name).function
    parameters = inspect.signature(function).parameters
    known = {p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    faults = _setting_faults(("loss", "settings"), settings, function, known)
    if weighted and "weight" not in parameters:
        faults.append((place, f"loss.weight is {shown(weight)}; allowed with {name}: none."))
    return faults


def _supervision_faults(network: Mapping[str, Any], supervision: Mapping[str, Any]) -> list[Fault]:
    kind, name = supervision.get("kind"), network.get("name", PLAN)
    fitting = _NETWORK_OF.get(kind) if isinstance(kind, str) else None
    if fitting is None or name not in (PLAN, *network_names()):
        return []
    place = ("supervision", "kind")
    if name not in fitting:
        kinds = [one for one, names in _NETWORK_OF.items() if name in names]
        allowed = f"allowed with the network {name}: {', '.join(['output', *kinds])}"
        return [(place, f"supervision.kind is {shown(kind)}; {allowed}.")]
    if kind == "attention" and _mapping(network.get("settings")).get("attention") is False:
        sentence = f"supervision.kind is {shown(kind)}; allowed without attention: output."
        return [(place, sentence)]
    return []


def _setting_faults(
    place: Place, settings: Mapping[str, Any], function: Callable[..., Any], known: set[str]
) -> list[Fault]:
    """Settings that do not exist, or are of another type than the function says."""
    hints = get_type_hints(function)
    faults: list[Fault] = []
    for key, value in settings.items():
        inner = (*place, key)
        if key not in known:
            end = nearest(key, sorted(known)) if known else "allowed: nothing"
            faults.append((inner, f"{named(inner)} is unknown; {end}."))
            continue
        adapter = TypeAdapter[Any](hints[key])
        try:
            # As JSON: lists may be tuples, but words are not numbers and true is not 1.
            adapter.validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            allowed = allowed_by(adapter.json_schema(), {})
            for one in error.errors(include_url=False):
                wrong = (*inner, *(step for step in one["loc"] if isinstance(step, int)))
                found = shown(one["input"])
                faults.append((wrong, f"{named(wrong)} is {found}; {key} allows {allowed}."))
    return faults


def _range(schema: Mapping[str, Any]) -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    limits = [("of at least", low), ("above", above), ("of at most", high), ("below", below)]
    words = [f"{word} {limit:g}" for word, limit in limits if limit is not None]
    return f" {' and '.join(words)}" if words else ""
