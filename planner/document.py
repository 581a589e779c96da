"""Reads YAML and JSON files into plain values, with the line at which each key stands.

Owns the syntax and its mistakes: what is not YAML or JSON, and keys that stand twice. Knows no
format.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml

from planner.errors import InvalidFile

# libyaml, where PyYAML was built with it, reads ten times as fast.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

USER = re.compile(r"//[^/@\s]*@")

_notes: ContextVar[list[Path] | None] = ContextVar("notes", default=None)  # see `noted`


class Document(NamedTuple):
    """What a file holds, in plain mappings, lists and values.

    lines: the line of every key and list entry by its path, `pools.a.backends[0]`; first line is 1.
    Empty for JSON.
    """

    value: Any
    lines: Mapping[str, int]

    def line_of(self, key: str) -> int | None:
        """The line of a key, or of the nearest key above it; `None` if neither is in the file."""
        while key:
            if key in self.lines:
                return self.lines[key]
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return None


def shown(value: object) -> str:
    """A value as a message has it: on one line, whatever it holds, and without the user and the
    password of a URL."""
    text = USER.sub("//…@", str(value))
    return text if text.isprintable() else repr(text)


def under(key: str, name: object) -> str:
    """The path of a name below a key."""
    return f"{key}.{shown(name)}" if key else shown(name)


@contextmanager
def noted() -> Iterator[list[Path]]:
    """Note the paths of all files that are read while the context is open, also of those that
    cannot be read."""
    outer, paths = _notes.get(), list[Path]()
    token = _notes.set(paths)
    try:
        yield paths
    finally:
        _notes.reset(token)
        if outer is not None:
            outer += paths


def note(path: Path) -> None:
    """Note a file that is read otherwise; see `noted`."""
    if (notes := _notes.get()) is not None:
        notes.append(path)


def read(path: Path) -> Document:
    """Read a file. Raises InvalidFile.

    A key that stands twice in one mapping of YAML is an error: all but its last value would be
    lost without a word.
    """
    note(path)
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".json":
            return Document(msgspec.json.decode(data), {})
        return _yaml(path, data)
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)  # as editors know it
        text = problem or " ".join(str(error).split())
        raise InvalidFile(f"{where}: {text}") from error
    except (ValueError, RecursionError) as error:  # malformed JSON; a date like 2026-02-30
        raise InvalidFile(f"{path}: {' '.join(str(error).split())}") from error


def _yaml(path: Path, data: bytes) -> Document:
    loader = LOADER(data)
    try:
        node = loader.get_single_node()
        if node is None:
            return Document(None, {})
        lines: dict[str, int] = {}
        twice = [f"{path}: {problem}" for problem in _walk(node, "", lines, set())]
        if twice:
            raise InvalidFile("\n".join(twice))
        return Document(loader.construct_document(node), lines)
    finally:
        loader.dispose()


def _walk(node: yaml.Node, key: str, lines: dict[str, int], seen: set[int]) -> Iterator[str]:
    """Note the lines of all keys; yield a line for each that stands twice in its mapping.

    seen: nodes, which an alias may repeat.
    """
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, entry in enumerate(node.value):
            where = f"{key}[{number}]"
            lines[where] = entry.start_mark.line + 1
            yield from _walk(entry, where, lines, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[str, int] = {}
    for name, entry in node.value:
        line = name.start_mark.line + 1
        where = under(key, name.value if isinstance(name, yaml.ScalarNode) else "?")
        if isinstance(name, yaml.ScalarNode):
            if name.value in first:
                yield f"{where}: stands twice, in lines {first[name.value]} and {line}"
            first.setdefault(name.value, line)
        lines.setdefault(where, line)
        yield from _walk(entry, where, lines, seen)
