"""What a body may hold, as JSON Schema: the shape from its model, the limits from the core's table.

So the description says what is checked, and cannot say anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.accepted_fields import ACCEPTED
from gateway.openai.body import Body
from gateway.openai.field_names import openai_name

Schema = dict[str, Any]

REF_TEMPLATE = "#/components/schemas/{model}"
_NULL: Schema = {"type": "null"}
# Their limits at this door are not the core's, and stand in their models.
_OWN_LIMITS = {"stop", "top_k", "prompt", "messages", "messages.content"}
_NESTED = {"MessageBody": "messages."}
_HIGHEST = ("minimum", "minLength")
_LOWEST = ("maximum", "maxLength", "maxItems", "maxProperties")


def body_schema(model: type[Body]) -> tuple[Schema, dict[str, Schema]]:
    """The schema of a body, and those that it refers to by name."""
    schema = model.model_json_schema(ref_template=REF_TEMPLATE)
    shared: dict[str, Schema] = schema.pop("$defs", {})
    limits = {openai_name(path, {}): check.schema for path, check in ACCEPTED.items()}
    limits |= {name: ACCEPTED[path].schema for name, path in model.limited_as.items()}
    _describe(schema, limits, "")
    for name, nested in shared.items():
        _describe(nested, limits, _NESTED.get(name, f"{name}."))
    for name, neutral in model.unsupported.items():
        schema["properties"][name] = {
            "description": "Not supported; these values ask for nothing.",
            "enum": [*neutral, None],
        }
    return schema, shared


def _describe(schema: Schema, limits: Mapping[str, Mapping[str, Any]], prefix: str) -> None:
    schema.pop("title", None)
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        limit = limits.get(prefix + name)
        if limit is not None and prefix + name not in _OWN_LIMITS:
            _bound(field, limit)
        field.pop("title", None)
        if field.get("default", 0) is None:
            del field["default"]
        if name in required:
            _refuse_null(field)
        else:
            _allow_null(field)


def _bound(field: Schema, limit: Mapping[str, Any]) -> None:
    """Puts a limit of the core on a field, or on what it is where it is not null."""
    kinds = [kind for kind in field.get("anyOf", ()) if kind != _NULL]
    target = kinds[0] if kinds else field
    target.update(_both(target, limit))
    if target["type"] == "array":
        target.pop("minItems", None)  # an empty list is the same as none


def _both(one: Mapping[str, Any], other: Mapping[str, Any]) -> Schema:
    """What holds for both."""
    both = {**one, **other}
    for name in both.keys() & one.keys() & other.keys():
        if name in _HIGHEST:
            both[name] = max(one[name], other[name])
        elif name in _LOWEST:
            both[name] = min(one[name], other[name])
        elif name in ("items", "additionalProperties"):
            both[name] = _both(one[name], other[name])
    return both


def _allow_null(field: Schema) -> None:
    """Null is the same as absent."""
    if _NULL in field.get("anyOf", ()):
        return
    if "anyOf" in field:
        field["anyOf"].append(_NULL)
        return
    kind = {key: field.pop(key) for key in list(field) if key not in ("description", "default")}
    field["anyOf"] = [kind, _NULL]


def _refuse_null(field: Schema) -> None:
    if "anyOf" in field:
        field["anyOf"] = [kind for kind in field["anyOf"] if kind != _NULL]
