"""Variables of the environment in the values of a configuration: `${NAME}` and `${NAME:-default}`.

As in a shell the default stands for a variable that is empty too. `$${` is a literal `${`; any
other `$` is itself. Names of keys have no variables.
"""

import re
from collections.abc import Mapping
from typing import Any

from planner.document import shown, under
from planner.files import Untyped

VARIABLE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\})?")


def expanded(value: Any, environ: Mapping[str, str], key: str = "") -> tuple[Any, list[str]]:
    """A value of plain mappings, lists and texts with its variables replaced, and a line `KEY:
    TEXT` for each that cannot be. Text with a variable counts as a number where one is wanted."""
    problems: list[str] = []
    return _expanded(value, environ, key, problems), problems


def _expanded(value: Any, environ: Mapping[str, str], key: str, problems: list[str]) -> Any:
    if isinstance(value, dict):
        problems += [
            f"{under(key, name)}: a name cannot have a variable in it"
            for name in value
            if isinstance(name, str) and "${" in name
        ]
        return {
            name: _expanded(entry, environ, under(key, name), problems)
            for name, entry in value.items()
        }
    if isinstance(value, list):
        return [_expanded(one, environ, f"{key}[{n}]", problems) for n, one in enumerate(value)]
    if isinstance(value, str) and "${" in value:
        return _text(value, environ, key, problems)
    return value


def _text(text: str, environ: Mapping[str, str], key: str, problems: list[str]) -> str:
    def replaced(found: re.Match[str]) -> str:
        name, default = found[1], found[3]
        if found[0] == "$${":
            return "${"
        if name is None:
            problems.append(f"{key}: a variable is ${{NAME}} or ${{NAME:-default}}: {shown(text)}")
            return ""
        if name not in environ and found[2] is None:
            problems.append(f"{key}: the environment has no variable {name}")
        return environ.get(name, "") or default or ""

    return Untyped(VARIABLE.sub(replaced, text))
