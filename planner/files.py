"""Reads the YAML files that have a format of ours. Knows none of the formats."""

from pathlib import Path
from typing import TypeVar

import msgspec

from planner.errors import InvalidFile

T = TypeVar("T")


def decoded(path: Path, kind: type[T]) -> T:
    """A file as `kind`. Raises InvalidFile naming the file and the key."""
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise InvalidFile(f"{path}: {error}") from error
