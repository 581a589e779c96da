"""Turns a value read from YAML into a section of the schema, or into problems with their keys.

msgspec alone stops at the first problem and names no key of a mapping. Here every key is converted
by itself, so that one mistake does not hide another. Knows no section by name.
"""

import types
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

import msgspec

T = TypeVar("T")

Problem = Callable[
    [str], None
]  # called with one line for each problem: the key's path and the fault


def convert(value: Any, section: type[T], problems: list[str]) -> T | None:
    """Convert the whole file to its type; `None` when it has problems, one line for each.

    Domains of numbers are not looked at: `domain_problems` does that.
    """
    before = len(problems)
    converted = _converted(value, section, "", problems.append)
    return None if len(problems) > before else cast(T, converted)


def domain_problems(section: msgspec.Struct, path: str) -> Iterator[str]:
    """One line for each number of a section that lies outside its domain, as its type states it."""
    for field in msgspec.structs.fields(type(section)):
        value = getattr(section, field.name)
        key = f"{path}.{field.name}" if path else field.name
        if isinstance(value, msgspec.Struct):
            yield from domain_problems(value, key)
        elif isinstance(value, dict):
            for name, entry in value.items():
                if isinstance(entry, msgspec.Struct):
                    yield from domain_problems(entry, f"{key}.{name}")
        elif value is not None:
            yield from _outside(value, field.type, key)


def _outside(number: Any, field_type: Any, key: str) -> Iterator[str]:
    """A line that says the domain in words, if the number lies outside it."""
    if get_origin(field_type) in (Union, types.UnionType):
        field_type = get_args(field_type)[0]
    if get_origin(field_type) is tuple:
        for index, entry in enumerate(number):
            yield from _outside(entry, get_args(field_type)[0], f"{key}[{index}]")
    elif get_origin(field_type) is Annotated:
        try:
            msgspec.convert(number, field_type)
        except msgspec.ValidationError:
            yield f"{key}: must be {get_args(field_type)[1].description}: {number}"


def _converted(value: Any, field_type: Any, path: str, problem: Problem) -> Any:
    origin, arguments = get_origin(field_type), get_args(field_type)
    if origin in (Union, types.UnionType):  # of the schema, always `SomeType | None`
        return None if value is None else _converted(value, arguments[0], path, problem)
    if isinstance(field_type, type) and issubclass(field_type, msgspec.Struct):
        mapping = _leaf(value, dict, path, problem)
        return None if mapping is None else _section(mapping, field_type, path, problem)
    if origin is dict:
        mapping = _leaf(value, dict, path, problem) or {}
        return {
            str(name): _converted(entry, arguments[1], f"{path}.{name}", problem)
            for name, entry in mapping.items()
        }
    if origin is tuple:
        entries = _leaf(value, list, path, problem) or []
        return tuple(
            _converted(entry, arguments[0], f"{path}[{index}]", problem)
            for index, entry in enumerate(entries)
        )
    return _leaf(value, arguments[0] if origin is Annotated else field_type, path, problem)


def _section(
    mapping: Mapping[Any, Any], section: type[msgspec.Struct], path: str, problem: Problem
) -> msgspec.Struct | None:
    """A section from its keys; `None` when it cannot be made of them."""
    prefix = f"{path}." if path else ""
    fields = {field.name: field for field in msgspec.structs.fields(section)}
    missing = [
        name
        for name, field in fields.items()
        if field.required and (name not in mapping or (_is_mapping(field) and not mapping[name]))
    ]
    for name in missing:
        text = "needs at least one entry" if _is_mapping(fields[name]) else "missing"
        problem(f"{prefix}{name}: {text}")
    values = {
        name: _converted(mapping[name], field.type, f"{prefix}{name}", problem)
        for name, field in fields.items()
        if name in mapping and name not in missing
    }
    for key in mapping:
        if key not in fields:
            problem(f"{prefix}{key}: unknown key")
    return None if missing else section(**values)


def _is_mapping(field: msgspec.structs.FieldInfo) -> bool:
    return get_origin(field.type) is dict


def _leaf(value: Any, leaf_type: Any, path: str, problem: Problem) -> Any:
    try:
        return msgspec.convert(value, leaf_type)
    except msgspec.ValidationError as error:
        text = str(error)
        problem(f"{path}: {text[0].lower()}{text[1:]}")
        return None
