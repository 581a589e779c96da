"""Holds what a YAML or JSON file has against the types of a format; says in words what is wrong.

It goes key by key, so that one mistake does not hide another: each is one line that begins with its
key. Knows none of the formats.
"""

import datetime
import difflib
import re
import types
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec

from planner import document
from planner.errors import InvalidFile, InvalidValue

T = TypeVar("T")
Problem = Callable[[str], None]  # called with one line for each mistake: the key and the fault
NoneType = type(None)

DATES = (datetime.date, datetime.datetime)  # that YAML knows by itself
WANTED = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text",
    datetime.date: "a date",
}  # fmt: skip
FOUND = {
    bool: "true or false", int: "a number", float: "a number", str: "text", dict: "a mapping",
    list: "a list", NoneType: "empty", datetime.date: "a date",
}  # fmt: skip
NEARNESS = 0.7  # of a key that is proposed, by difflib: `memory_gb` to `memory_gib` is 0.95


class Untyped(str):
    """Text from elsewhere than the file, such as a variable's: a number where one is wanted."""

    __slots__ = ()


class Parts(NamedTuple):
    """A file as far as it is right.

    values: of the keys that are. wrong: the top-level keys that are not, or that are missing.
    problems: one line for each mistake, without the file's name.
    """

    values: dict[str, Any]
    wrong: frozenset[str]
    problems: tuple[str, ...]


def decoded(path: Path, form: type[T]) -> T:
    """A file as a value of type `form`. Raises InvalidFile, a line for each mistake: file, key."""
    value, problems = converted(loaded(path), form)
    if problems:
        raise InvalidFile(lines(path, problems))
    return value


def converted(value: Any, form: type[T], key: str = "") -> tuple[T, list[str]]:
    """What YAML or JSON gave as a value of type `form`, and a line for each mistake in it.

    Where there are mistakes it is what is left without them: a wrong value has its default, and a
    section without a right value for a required key is left out of its mapping. `None` if nothing
    is left. key: where the value stands in its file.
    """
    problems: list[str] = []
    found: T = _converted(value, form, key, problems.append)
    return found, problems


def parts(path: Path, form: type[msgspec.Struct]) -> Parts:
    """The keys of a file that are right, and what is wrong with the others. Raises InvalidFile."""
    value = loaded(path)
    problems: list[str] = []
    values: dict[str, Any] = {}
    if isinstance(value, dict):
        found, mistaken = _fields(value, form, "", problems.append)
        values = {name: one for name, one in found.items() if name not in mistaken}
    else:
        problems.append(_expected("a mapping", value))
    names = {field.name: field for field in msgspec.structs.fields(form)}
    required = {name for name, field in names.items() if field.required}
    wrong = (required | (set(value) if isinstance(value, dict) else set())) - set(values)
    return Parts(values, frozenset(wrong), tuple(problems))


def lines(path: Path, problems: list[str] | tuple[str, ...]) -> str:
    """The text of an error: a line for each mistake in a file, each with the file's name."""
    return "\n".join(f"{path}: {problem}" for problem in problems)


def outside(section: msgspec.Struct) -> list[str]:
    """A line for each number of a section that lies outside the domain that its type states."""
    problems: list[str] = []
    for field in msgspec.structs.fields(type(section)):
        value, form = getattr(section, field.name), field.type
        if get_origin(form) in (Union, types.UnionType):
            form = next((one for one in get_args(form) if get_origin(one) is Annotated), form)
        if value is not None and get_origin(form) is Annotated:
            _inside(value, form, field.name, problems.append)
    return problems


def refuse(problems: Sequence[str]) -> None:
    """Raise InvalidValue with a line for each problem, if there are any."""
    if problems:
        raise InvalidValue("\n".join(problems))


def loaded(path: Path) -> Any:
    """What a file holds, in plain mappings, lists and values. Raises InvalidFile."""
    return document.read(path).value


def _converted(value: Any, form: Any, key: str, problem: Problem) -> Any:
    """A value as its type; `None` where it has a problem."""
    origin, arguments = get_origin(form), get_args(form)
    if origin in (Union, types.UnionType):
        if value is None and NoneType in arguments:
            return None
        return _of_union(value, [one for one in arguments if one is not NoneType], key, problem)
    if origin is Annotated:
        before = _converted(value, arguments[0], key, problem)
        return before if before is None or _inside(before, form, key, problem) else None
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            given = document.shown(value) if isinstance(value, str | int | float) else _found(value)
            problem(_at(key, f"{given} is none of {', '.join(map(str, arguments))}"))
            return None
        return str(value) if isinstance(value, str) else value
    if origin is dict:
        return _mapping(value, arguments[1], key, problem)
    if origin is tuple:
        return _tuple(value, arguments, key, problem)
    if isinstance(form, type) and issubclass(form, msgspec.Struct):
        return _struct(value, form, key, problem)
    return _leaf(value, form, key, problem)


def _of_union(value: Any, forms: list[Any], key: str, problem: Problem) -> Any:
    """A value of one of several types: a mapping is the section among them, the rest is text."""
    if len(forms) == 1:
        return _converted(value, forms[0], key, problem)
    for form in forms:
        section = isinstance(form, type) and issubclass(form, msgspec.Struct)
        if section == isinstance(value, dict) and (section or isinstance(value, str)):
            return _converted(value, form, key, problem)
    problem(_at(key, _expected("a name or a mapping", value)))
    return None


def _mapping(value: Any, form: Any, key: str, problem: Problem) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        problem(_at(key, _expected("a mapping", value)))
        return None
    found = {}
    for name, entry in value.items():
        where = document.under(key, name)
        if not isinstance(name, str):
            problem(f"{where}: the key must be text: put it in quotes")
        one, right = _tried(entry, form, where, problem)
        if right or one is not None:
            found[str(name)] = one
    return found


def _tried(value: Any, form: Any, key: str, problem: Problem) -> tuple[Any, bool]:
    """A value as its type, and whether it has no problem; what it has is passed on."""
    before: list[str] = []
    one = _converted(value, form, key, before.append)
    for line in before:
        problem(line)
    return one, not before


def _tuple(value: Any, forms: tuple[Any, ...], key: str, problem: Problem) -> Any:
    if not isinstance(value, list):
        problem(_at(key, _expected("a list", value)))
        return None
    if forms[-1] is not Ellipsis and len(forms) != len(value):
        problem(_at(key, f"must be a list of {len(forms)}, has {len(value)}"))
        return None
    each = [forms[0]] * len(value) if forms[-1] is Ellipsis else forms
    entries = [
        _tried(entry, one, f"{key}[{n}]", problem)
        for n, (entry, one) in enumerate(zip(value, each, strict=True))
    ]
    return tuple(entry for entry, _ in entries) if all(right for _, right in entries) else None


def _struct(value: Any, form: type[msgspec.Struct], key: str, problem: Problem) -> Any:
    if not isinstance(value, dict):
        problem(_at(key, _expected("a mapping", value)))
        return None
    before: list[str] = []
    values, _ = _fields(value, form, key, before.append)
    for line in before:
        problem(line)
    if any(f.required and f.name not in values for f in msgspec.structs.fields(form)):
        return None
    try:
        return form(**values)
    except ValueError as error:  # a section's own check: a line for each mistake, its key first
        if not before:  # else it may be about a default in the place of a mistake
            for line in str(error).splitlines():
                problem(f"{key}.{line}" if key else line)
        return None


def _fields(
    value: dict[Any, Any], form: type[msgspec.Struct], key: str, problem: Problem
) -> tuple[dict[str, Any], set[str]]:
    """The fields of a section as far as they are right, and the names of those with a mistake."""
    fields = {field.name: field for field in msgspec.structs.fields(form)}
    missing = [name for name, field in fields.items() if field.required and name not in value]
    found: dict[str, Any] = {}
    mistaken: set[str] = set()
    for name in value:
        where = document.under(key, name)
        if name in fields:
            one, right = _tried(value[name], fields[name].type, where, problem)
            if right or one is not None:
                found[name] = one
            if not right:
                mistaken.add(name)
        elif form.__struct_config__.forbid_unknown_fields:
            near = difflib.get_close_matches(str(name), set(fields) - set(value), 1, NEARNESS)
            problem(f"{where}: unknown key" + (f"; did you mean {near[0]}?" if near else ""))
            missing = [one for one in missing if one not in near]
    for name in missing:
        problem(f"{document.under(key, name)}: missing")
    return found, mistaken


def _leaf(value: Any, form: Any, key: str, problem: Problem) -> Any:
    if form is Any or form is object:
        return value
    if isinstance(value, Untyped):
        value = str(value)
        with suppress(msgspec.ValidationError):
            return msgspec.convert(value, form, builtin_types=DATES, strict=False)
    try:
        return msgspec.convert(value, form, builtin_types=DATES)
    except msgspec.ValidationError:
        problem(_at(key, _expected(WANTED.get(form, form.__name__), value)))
        return None


def _inside(value: Any, form: Any, key: str, problem: Problem) -> bool:
    """Whether a value, which is of the right type, lies inside the type's bounds and fits its
    pattern; problem hears if it does not."""
    for bound in get_args(form)[1:]:
        # Written so that NaN, which compares with nothing, lies outside.
        inside = (
            (bound.ge is None or value >= bound.ge)
            and (bound.gt is None or value > bound.gt)
            and (bound.le is None or value <= bound.le)
            and (bound.pattern is None or re.search(bound.pattern, value))
        )
        if not inside:
            number = f"{value:.15g}" if isinstance(value, float) else document.shown(value)
            found = "" if (bound.extra or {}).get("secret") else f": {number}"
            problem(_at(key, f"must be {bound.description}{found}"))
            return False
    return True


def _at(key: str, text: str) -> str:
    return f"{key}: {text}" if key else text


def _found(value: Any) -> str:
    return FOUND.get(type(value), type(value).__name__)


def _expected(wanted: str, value: Any) -> str:
    """`must be a number, is text`, with what helps against YAML's own idea of a value."""
    found = _found(value)
    if isinstance(value, str) and "number" in wanted:
        told = f"must be {wanted}, is text: {document.shown(value)}"
        try:
            # YAML 1.1 takes 30.5e9 for text: an exponent needs its sign.
            return f"{told} (write {float(value):g})"
        except ValueError:
            return told
    if wanted == "text" and isinstance(value, int | float):
        return f"must be text, is {found}: put {value} in quotes"
    if wanted == "a whole number" and isinstance(value, float):
        return f"must be a whole number: {value}"
    return f"must be {wanted}, is {found}"
