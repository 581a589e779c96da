"""Where the data that ships with Cuvée lies, and what a name in a configuration means.

Owns the place (`configs/` of a checkout, the package `cuvee_configs` of an installation) and the
rule that tells a built-in name from a path. Knows none of the formats.
"""

import difflib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from planner.errors import InvalidValue

CHECKOUT = Path(__file__).resolve().parent.parent / "configs"
PACKAGE = "cuvee_configs"  # setup.py makes it from configs/
ENDINGS = (".yaml", ".yml", ".json")
PROPOSALS = 3  # names that an error proposes
NEARNESS = 0.65  # of them, by difflib: `a100` is as near as this to `A100-80G`
LISTED = 20  # names that an error lists where none is near: a line that can still be read

T = TypeVar("T")


def folder() -> Path:
    """The folder of the shipped data."""
    # A folder `configs` beside installed packages belongs to some other distribution.
    if (CHECKOUT / "gpus.yaml").is_file():
        return CHECKOUT
    return Path(str(files(PACKAGE)))


def shelf(subfolder: str, ending: str = ".yaml") -> dict[str, Path]:
    """The files of a subfolder by their built-in names: `llama-3-8b/H100`, `aws-2026-07`."""
    top = folder() / subfolder
    paths = sorted(top.rglob(f"*{ending}"))
    return {path.relative_to(top).as_posix().removesuffix(ending): path for path in paths}


def is_path(value: str, root: Path) -> bool:
    """Whether a configuration's value is a path (relative to root) and not a built-in name."""
    return value.lower().endswith(ENDINGS) or (root / value).is_file()


def absolute(value: str, root: Path) -> str:
    """The value for a configuration in another folder: a path made absolute, a name as it is."""
    return str((root / value).resolve()) if is_path(value, root) else value


def located(value: str, root: Path, subfolder: str) -> Path:
    """The file that a value means. Raises InvalidValue for a name that no shipped file has."""
    if is_path(value, root):
        return root / value
    named = shelf(subfolder)
    path = lookup(value, named)
    if path is None:
        raise InvalidValue(f"{unknown(value, named)} A path ends in .yaml.")
    return path


def workload(name: str) -> Path:
    """The trace that ships under a name. Raises InvalidValue for a name that none has."""
    named = shelf("workloads", ".csv")
    path = lookup(name, named)
    if path is None:
        raise InvalidValue(unknown(name, named))
    return path


def lookup(name: str, named: Mapping[str, T]) -> T | None:
    """The value with this name, in upper or lower case; `None` for an unknown name."""
    wanted = name.casefold()
    return next((value for known, value in named.items() if known.casefold() == wanted), None)


def unknown(name: str, known: Iterable[str]) -> str:
    """The text of an error about an unknown name, with the known names that are near it.

    Those that begin with it come before those that look like it, so that `A100` proposes what
    there is of it. Neither an organisation nor Meta's own prefix counts:
    `meta-llama/Meta-Llama-3-8B` is Llama-3-8B.
    """
    names = {one.casefold(): one for one in known}
    asked = name.casefold()
    bare = asked.rpartition("/")[2].removeprefix("meta-")
    longer = [one for one in names if bare and one.startswith((asked, bare))]
    near = difflib.get_close_matches(bare, longer, PROPOSALS, 0.0) or [
        *difflib.get_close_matches(asked, names, PROPOSALS, NEARNESS),
        *(difflib.get_close_matches(bare, names, PROPOSALS, NEARNESS) if bare != asked else ()),
    ]
    if near:
        proposed = list(dict.fromkeys(names[one] for one in near))[:PROPOSALS]
        return f"unknown `{name}`; did you mean {' or '.join(proposed)}?"
    listed = sorted(names.values(), key=str.casefold)
    rest = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    return f"unknown `{name}`; known are {', '.join(listed[:LISTED])}{rest}."
