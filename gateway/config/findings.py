"""What is wrong with a configuration file, gathered while it is read. Knows no key by name."""

import difflib
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from planner import files
from planner.document import Document

LAST = sys.maxsize  # a line behind those of the file


class Findings:
    """Problems, with which a gateway does not start, and warnings; each is about one key.

    A key whose value could not be used has one problem: what would follow from the default that
    stands in its place is not told.
    """

    def __init__(self, path: Path, document: Document) -> None:
        """path, document: of the file, for the lines at which its keys stand."""
        self._path = path
        self._document = document
        self._unusable: list[str] = []
        self._problems: list[tuple[int, str]] = []
        self._warnings: list[tuple[int, str]] = []

    def __repr__(self) -> str:
        return f"<Findings {len(self._problems)} problems, {len(self._warnings)} warnings>"

    @property
    def problems(self) -> tuple[str, ...]:
        """One line each, `FILE:LINE: KEY: TEXT`, in the order of the file."""
        return tuple(text for _, text in sorted(self._problems, key=lambda one: one[0]))

    @property
    def warnings(self) -> tuple[str, ...]:
        """As `problems`."""
        return tuple(text for _, text in sorted(self._warnings, key=lambda one: one[0]))

    def unusable(self, lines: Iterable[str]) -> None:
        """Note problems of values that could not be used: lines `KEY: TEXT`."""
        for line in lines:
            key, _, text = line.partition(": ")
            self._unusable.append(key)
            self._problems.append(self._located(key, text))

    def problem(self, key: str, text: str) -> None:
        """Note a problem of a value; each line of the text is one."""
        if not self.hides(key):
            self._problems += [self._located(key, line) for line in text.splitlines()]

    def invalid(self, section: str, text: str) -> None:
        """Note a problem in the words of a value that checks itself: they may begin with the name
        of a key of the section."""
        key, _, rest = text.partition(" must ")
        if rest and key.isidentifier():
            self.problem(f"{section}.{key}", f"must {rest}")
        else:
            self.problem(section, text)

    def warning(self, key: str, text: str) -> None:
        """Note what the gateway starts with, but hardly anybody wants."""
        if not self.hides(key):
            self._warnings.append(self._located(key, text))

    def adopt(self, other: "Findings") -> None:
        """Tell of what is wrong with another file, too, behind what is wrong with this one."""
        self._problems += [(LAST, text) for text in other.problems]
        self._warnings += [(LAST, text) for text in other.warnings]

    def hides(self, key: str) -> bool:
        """Whether a value at, above or below a key could not be used."""
        return any(
            one == key
            or one.startswith((f"{key}.", f"{key}["))
            or key.startswith((f"{one}.", f"{one}["))
            for one in self._unusable
        )

    def _located(self, key: str, text: str) -> tuple[int, str]:
        line = self._document.line_of(key)
        where = str(self._path) if line is None else f"{self._path}:{line}"
        return line or 0, f"{where}: {key}: {text}" if key else f"{where}: {text}"


def did_you_mean(name: str, known: Iterable[object]) -> str:
    """The end of a line about an unknown name: what is near it, or nothing."""
    near = difflib.get_close_matches(name, [str(one) for one in known], 1, files.NEARNESS)
    return f"; did you mean {near[0]}?" if near else ""


def no_value(variable: str) -> str:
    """The text about a variable of the environment that is missing or empty. What does not look
    like the name of one may be the key itself, written in the wrong place, and is not shown."""
    if re.fullmatch("[A-Z_][A-Z0-9_]{0,63}", variable):
        return f"the variable {variable} has no value"
    return "the variable has no value, and what stands here must be its name, not a key"
