"""The API's description as a page for people: one file, with nothing from elsewhere in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code { font-size: 0.9em; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: 0.2rem 0.8rem 0.2rem 0; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #ddd; } a { color: #8af; } }
"""
# How the size of each kind is bounded, and what it is counted in.
_SIZES = {
    "string": ("minLength", "maxLength", " characters"),
    "array": ("minItems", "maxItems", ""),
    "object": ("minProperties", "maxProperties", " entries"),
}


def docs_page(description: Mapping[str, Any]) -> str:
    """HTML for an OpenAPI description of this API."""
    schemas = description["components"]["schemas"]
    parts = [
        _section(f"{method.upper()} {path}", operation, schemas)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    bodies = [_object(name, schema) for name, schema in schemas.items()]
    info = description["info"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{info["title"]}</title>'
        f"<style>{_STYLE}</style><h1>{info['title']} {info['version']}</h1>"
        '<p>The HTTP API, also as <a href="openapi.json">openapi.json</a>.</p>'
        "<p>In a body null is the same as absent; fields that are not listed are ignored.</p>"
        f"{''.join(parts)}<h2>Objects</h2>{''.join(bodies)}</html>"
    )


def _section(title: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    html = f"<h2><code>{escape(title)}</code></h2><p>{escape(operation['summary'])}</p>"
    if "requestBody" in operation:
        name = _name_of(operation["requestBody"]["content"]["application/json"]["schema"])
        html += f"<p>Body:</p>{_fields(schemas[name])}"
    html += "<p>Answers:</p><table>"
    for code, answer in operation["responses"].items():
        name = _name_of(answer["content"]["application/json"]["schema"])
        html += f"<tr><td>{code}</td><td>{_link(name)}</td><td>{escape(answer['description'])}</td>"
    return f"{html}</table>"


def _object(name: str, schema: Mapping[str, Any]) -> str:
    about = escape(schema.get("description", ""))
    return f'<h3 id="{name}"><code>{name}</code></h3><p>{about}</p>{_fields(schema)}'


def _fields(schema: Mapping[str, Any]) -> str:
    rows = ""
    for name, field in schema["properties"].items():
        mark = " (required)" if name in schema.get("required", ()) else ""
        about = escape(field.get("description", ""))
        rows += f"<tr><td><code>{escape(name)}</code>{mark}</td><td>{_type(field)}</td>"
        rows += f"<td>{about}</td></tr>"
    return f"<table>{rows}</table>"


def _type(schema: Mapping[str, Any]) -> str:
    """What a value is, in a few words."""
    if "$ref" in schema:
        return _link(_name_of(schema))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return escape(" or ".join(json.dumps(value) for value in values))
    for several in ("anyOf", "oneOf"):
        if several in schema:
            kinds = [kind for kind in schema[several] if kind != {"type": "null"}]
            return " or ".join(map(_type, kinds))
    kind = str(schema.get("type", "anything"))
    if kind in ("integer", "number"):
        return kind + _range(schema)
    size = _size(kind, schema)
    return f"list of {size}{_type(schema.get('items', {}))}" if kind == "array" else kind + size


def _range(schema: Mapping[str, Any]) -> str:
    if "exclusiveMinimum" in schema:
        return f" above {schema['exclusiveMinimum']} to {schema['maximum']}"
    return f" {schema['minimum']} to {schema['maximum']}" if "minimum" in schema else ""


def _size(kind: str, schema: Mapping[str, Any]) -> str:
    least, most, unit = _SIZES.get(kind, ("", "", ""))
    if most not in schema:
        return ""
    size = f"{schema[least]} to {schema[most]}" if least in schema else f"at most {schema[most]}"
    return f"{size}: " if kind == "array" else f" of {size}{unit}"


def _name_of(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _link(name: str) -> str:
    return f'<a href="#{name}">{name}</a>'
