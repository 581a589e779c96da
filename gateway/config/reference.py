"""The page that documents the configuration file, made from the types of its sections.

`python -m gateway.config.reference > docs/configuration.md`; a test keeps the two the same.
"""

import ast
import inspect
import typing
from collections.abc import Iterator

import msgspec

from gateway.config import schema
from gateway.config.schema import (
    BucketSection,
    Config,
    GatewaySection,
    LimitsSection,
    ModelSection,
    PlannerSection,
    PoolSection,
    SloSection,
    SpotSection,
    StockSection,
)

HEAD = """\
# Configuration

One YAML file, given as `--config`. Unknown keys are errors. Paths in the file are relative to the
file. Times are in seconds, sizes in tokens, prices in US dollars per hour. `configs/demo.yaml` is a
complete example; [planning](planning.md) says where it is after `pip install`.

`cuvee check --config FILE` reports problems, one line each, with the path of the key. It checks in
stages, and a stage is checked only when the stages before it found no problem:

1. that the file is YAML (the first mistake only), and that no key stands twice;
2. names of keys, required keys, types;
3. values, SLOs, profiles, backends, prices, buckets, and the files that are named. An SLO reports
   its first mistake only;
4. what depends on several parts: pools that no request size can use, models without a pool,
   `limits` (the first mistake only).

So correct what is reported and run the command again, until it prints a summary of the file.

This page is made from the types in `gateway/config/schema.py`, by `python -m
gateway.config.reference`.
"""
SECTIONS: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("(top level)", Config),
    ("models.NAME", ModelSection),
    ("models.NAME.slo", SloSection),
    ("models.NAME.classes.CLASS", SloSection),
    ("pools.NAME", PoolSection),
    ("pools.NAME.spot", SpotSection),
    ("buckets", BucketSection),
    ("planner", PlannerSection),
    ("limits", LimitsSection),
    ("limits.stock", StockSection),
    ("gateway", GatewaySection),
)
WORDS = {str: "text", int: "integer", float: "number", bool: "true or false"}


def manual() -> str:
    """The page in Markdown."""
    notes = _notes()
    return "\n".join(
        [HEAD, *(line for path, section in SECTIONS for line in _table(path, section, notes))]
    )


def _table(
    path: str, section: type[msgspec.Struct], notes: dict[tuple[str, str], str]
) -> Iterator[str]:
    """The lines about one section: its title, its docstring and a table of its keys."""
    yield f"## `{path}`\n"
    yield f"{inspect.getdoc(section)}\n"
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for field in msgspec.structs.fields(section):
        note = notes[section.__name__, field.name]
        yield f"| `{field.name}` | {_type(field.type)} | {_default(field)} | {note} |"
    yield ""


def _notes() -> dict[tuple[str, str], str]:
    """The text below each field in the source, by class name and field name."""
    notes = {}
    for node in ast.parse(inspect.getsource(schema)).body:
        if isinstance(node, ast.ClassDef):
            for before, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr):
                    text = ast.literal_eval(after.value)
                    notes[node.name, ast.unparse(before.target)] = " ".join(text.split())
    return notes


def _type(field_type: typing.Any) -> str:
    """A type in words, with the domain of a number."""
    if field_type in WORDS:
        return WORDS[field_type]
    origin, arguments = typing.get_origin(field_type), typing.get_args(field_type)
    if origin is typing.Annotated:
        meta = arguments[1]
        if meta.pattern is not None:
            return WORDS[arguments[0]]
        least = f"> {meta.gt:g}" if meta.ge is None else f"≥ {meta.ge:g}"
        return f"{WORDS[arguments[0]]} {least}"
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is dict:
        return "mapping by name"
    if origin is tuple:
        inner = arguments[0]
        plain = inner in WORDS or typing.get_origin(inner) is typing.Annotated
        return f"list of {_type(inner) if plain else 'sections'}"
    known = [a for a in arguments if a is not type(None)]
    return _type(known[0]) if known else "section"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is None:
        return "–"
    if isinstance(field.default, tuple) and field.default:
        return ", ".join(f"`{entry}`" for entry in field.default)
    if isinstance(field.default, str | int | float):
        return f"`{field.default}`"
    return "**required**" if field.required else "see below"


if __name__ == "__main__":
    print(manual(), end="")
