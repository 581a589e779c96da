"""The JSON schema of the configuration file, for editors: made from the types of its sections.

`python -m gateway.config.json_schema > configs/schema.json`; a test keeps the two the same. What an
editor cannot know is left to `cuvee check`: names of models, profiles and files, and promises.
"""

import json
from typing import Any

import msgspec

from gateway.config.domains import LARGEST
from gateway.config.reference import notes
from gateway.config.schema import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NUMBERS = ("integer", "number", "boolean")
# A text with a variable counts as a number where one is wanted: see `variables`.
VARIABLE = {"type": "string", "pattern": r"\$\{"}


def schema() -> dict[str, Any]:
    """The schema, with the text of each key as its description."""
    made: dict[str, Any] = msgspec.json.schema(Config)
    texts = notes()
    for name, section in made["$defs"].items():
        for key, value in section.get("properties", {}).items():
            section["properties"][key] = _of_key(value) | {"description": texts[name, key]}
    return {"$schema": DIALECT, "title": "Configuration of Cuvée"} | made


def text() -> str:
    """The schema as the file that ships."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _of_key(value: dict[str, Any]) -> dict[str, Any]:
    """The schema of a key. Editors write the default when a key is chosen: only plain ones stay."""
    shown = {} if isinstance(value.get("default"), dict | list | tuple | None) else value
    kept = {"default": shown["default"]} if "default" in shown else {}
    rest = {key: one for key, one in value.items() if key != "default"}
    return dict(_or_variable(rest)) | kept


def _or_variable(value: Any) -> Any:
    """A value's schema in which every number may also be a text with a variable."""
    if isinstance(value, list):
        return [_or_variable(one) for one in value]
    if not isinstance(value, dict):
        return value
    inner = {
        key: _or_variable(one)
        for key, one in value.items()
        if one != LARGEST  # a bound that only keeps infinity out
    }
    if isinstance(inner.get("pattern"), str):  # JSON Schema has no other end; nor a line break here
        inner["pattern"] = inner["pattern"].replace(r"\Z", "$")
    inner.pop("secret", None)
    return {"anyOf": [inner, VARIABLE]} if value.get("type") in NUMBERS else inner


if __name__ == "__main__":
    print(text(), end="")
