"""Reads the YAML and JSON files that have a known format. Knows none of the formats."""

from pathlib import Path
from typing import TypeVar

import msgspec

from planner.errors import InvalidFile

T = TypeVar("T")


def decoded(path: Path, form: type[T]) -> T:
    """A file as a value of type `form`. Raises InvalidFile, one line with the file and the key."""
    decode = msgspec.json.decode if path.suffix.lower() == ".json" else msgspec.yaml.decode
    try:
        return decode(path.read_bytes(), type=form)
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        # PyYAML explains a syntax error in several lines; every error of ours is one.
        raise InvalidFile(f"{path}: {' '.join(str(error).split())}") from error
