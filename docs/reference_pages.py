"""MkDocs hook: reference/configuration.md, every key of a study, from config/schema.json."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).parents[1] / "config" / "schema.json"
PAGE = "reference/configuration.md"
HEAD = """# Configuration: every key

Made from `config/schema.json`, with which editors complete and check a study. [The study file](study-file.md) explains
how a study is put together.
"""
#: The heading of the keys at the top of a study.
TOP = "A study"
#: From a heading in small letters to its anchor.
ANCHOR = str.maketrans(" ", "-", "()")


def on_files(files: Any, config: Any) -> Any:
    """Called by MkDocs with the files of docs/: the page is one of them."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, PAGE, content=configuration(json.loads(SCHEMA.read_text(encoding="utf-8")))))
    return files


def configuration(schema: Mapping[str, Any]) -> str:
    """The page: a table for each model of the schema, those that others refer to after them."""
    models = schema["$defs"]
    lines = [HEAD, *_section(TOP, schema, models)]
    for name in _in_order(schema, models):
        lines += _section(name, models[name], models)
    return "\n".join(lines) + "\n"


def _in_order(schema: Mapping[str, Any], models: Mapping[str, Any]) -> list[str]:
    """The models in the order in which a reader meets them, each once; what only changes others is left out."""
    found: dict[str, None] = {}
    waiting = list(_references(schema["properties"]))
    while waiting:
        name = waiting.pop(0)
        if name not in found and not name.endswith("Changes"):
            found[name] = None
            waiting = [*_references(models[name]), *waiting]
    return [name for name in found if models[name].get("properties")]


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner.rsplit("/", 1)[-1]
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _section(name: str, model: Mapping[str, Any], models: Mapping[str, Any]) -> list[str]:
    lines = [f"## {_title(name)}", ""]
    if text := model.get("description"):
        lines += [_inline(text), ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    required = model.get("required", [])
    for key, field in model["properties"].items():
        default = "required" if key in required else f"`{json.dumps(field['default'])}`" if "default" in field else ""
        if len(default) > 60:  # another model's defaults, which have a table
            default = "see there"
        cells = [f"`{key}`", _type(field, models), default, _inline(field.get("description", ""))]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return [*lines, ""]


def _title(name: str) -> str:
    """A model's name; of several models with one name also the module, whose names pydantic joins by `__`."""
    *modules, model = name.split("__")
    return f"{model} ({modules[-1]})" if modules else model


def _inline(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;")


def _type(field: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    """A field's type in words, with links to the tables of other models."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[-1]
        if models[name].get("properties") and not name.endswith("Changes"):
            return f"[{_title(name)}](#{_title(name).lower().translate(ANCHOR)})"
        return "the keys of a run" if name.endswith("Changes") else _type(models[name], models)
    for union in ("anyOf", "oneOf"):
        if union in field:
            return " or ".join(dict.fromkeys(_type(part, models) for part in field[union]))
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{json.dumps(value).strip(chr(34))}`" for value in field["enum"])
    kind = field.get("type", "any value")
    if kind == "array":
        inner = field.get("items") or (field.get("prefixItems") or [{}])[0]
        return f"list of {_type(inner, models)}"
    if kind == "object":
        inner = field.get("additionalProperties")
        return f"mapping of names to {_type(inner, models)}" if isinstance(inner, dict) else "mapping"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = ", ".join(f"{sign} {field[key]:g}" for key, sign in bounds.items() if key in field)
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    return " ".join(filter(None, (words.get(kind, kind), limits)))
