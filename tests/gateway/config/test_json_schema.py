"""The JSON schema of the configuration: what an editor calls a mistake is one, and no more."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.json_schema import schema, text

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,),
    "number": (int, float), "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
KNOWN = {
    "$ref", "anyOf", "type", "properties", "required", "additionalProperties", "items", "enum",
    "pattern", "minimum", "maximum", "exclusiveMinimum", "title", "description", "default",
}  # fmt: skip
MADE = schema()


def fits(value: Any, rule: dict[str, Any]) -> bool:
    """Whether a value keeps to a schema, by the words of JSON Schema that ours uses."""
    assert rule.keys() <= KNOWN
    if "$ref" in rule and not fits(value, MADE["$defs"][rule["$ref"].rpartition("/")[2]]):
        return False
    if "anyOf" in rule and not any(fits(value, one) for one in rule["anyOf"]):
        return False
    if "enum" in rule and value not in rule["enum"]:
        return False
    if "type" in rule:
        right = TYPES[rule["type"]]
        if not isinstance(value, right) or (isinstance(value, bool) and bool not in right):
            return False
    if isinstance(value, str):
        return re.search(rule.get("pattern", ""), value) is not None
    if isinstance(value, int | float):
        least = rule.get("exclusiveMinimum")
        return rule.get("minimum", value) <= value <= rule.get("maximum", value) and (
            least is None or value > least
        )
    if isinstance(value, list):
        return all(fits(one, rule.get("items", {})) for one in value)
    if isinstance(value, dict):
        own, more = rule.get("properties", {}), rule.get("additionalProperties", True)
        return set(rule.get("required", ())) <= value.keys() and all(
            fits(one, own[key] if key in own else more if isinstance(more, dict) else {})
            and (key in own or more is not False)
            for key, one in value.items()
        )
    return True


def changed(**gateway: Any) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load((CONFIGS / "demo.yaml").read_text())
    return value | {"gateway": gateway}


def whole(value: Any) -> bool:
    return fits(value, {"$ref": MADE["$ref"]})


def test_the_file_that_ships_is_made_from_the_types():
    """After a change of a key: `python -m gateway.config.json_schema > configs/schema.json`."""
    assert (CONFIGS / "schema.json").read_text() == text()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("demo*.yaml")), ids=lambda path: path.name)
def test_files_that_ship_keep_to_it_and_name_it(path: Path):
    """An editor shows no mistake in them, and finds the schema by their first line."""
    first = path.read_text().splitlines()[0]

    assert whole(yaml.safe_load(path.read_text()))
    assert first == "# yaml-language-server: $schema=schema.json"


def test_a_number_may_be_a_variable():
    """As the gateway takes it."""
    assert whole(changed(port="${PORT:-8000}", workers="${WORKERS}", include_usage="${USAGE}"))
    assert not whole(changed(port="eight"))


@pytest.mark.parametrize(
    "gateway", [{"prot": 1}, {"port": 99999}, {"workers": 0}, {"receipt": "none"}, {"host": 1}]
)
def test_mistakes_are_seen(gateway: dict[str, Any]):
    """Unknown keys, wrong types, and values outside of their domains."""
    assert not whole(changed(**gateway))


def test_every_key_has_its_text():
    """An editor shows what a key means, in the words of the reference; and no file needs `null`."""
    for section in MADE["$defs"].values():
        for key, value in section["properties"].items():
            assert len(value["description"]) > 5, key
            assert "default" not in value or value["default"] is not None
    assert "$schema" in json.loads(text())
