"""The file that a measurement can go on from: what was measured so far, saved after each load.

Owns the format and the atomic write. Knows no backend.
"""

import contextlib
import os
from pathlib import Path
from typing import Literal

import msgspec

from loadtest.measure.load import LoadPoint
from loadtest.measure.subject import Subject
from planner.errors import InvalidFile

FORMAT: Literal["cuvee-measurement/1"] = "cuvee-measurement/1"
SUFFIX = ".measuring.json"


class Journal(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The subject and its measurements, in the order in which they were made."""

    format: Literal["cuvee-measurement/1"] = FORMAT
    subject: Subject
    measured: tuple[LoadPoint, ...] = ()


def beside(out: Path) -> Path:
    """Where the journal of a profile stands."""
    return out.with_name(out.name + SUFFIX)


def load(path: Path, subject: Subject) -> tuple[LoadPoint, ...]:
    """What a journal holds of this subject; nothing if there is no file.

    Raises InvalidFile for a file that is no journal, or that of another subject.
    """
    try:
        journal = msgspec.json.decode(path.read_bytes(), type=Journal)
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError) as error:
        raise InvalidFile(f"{path}: no measurement to go on from: {error}") from error
    if journal.subject != subject:
        fields = msgspec.structs.asdict(subject).items()
        other = [name for name, value in fields if getattr(journal.subject, name) != value]
        raise InvalidFile(
            f"{path}: begun for another engine ({', '.join(other)} differ): "
            "delete the file, or write another profile"
        )
    return journal.measured


def save(path: Path, journal: Journal) -> None:
    """Write a journal in one piece: it is the old one or the new one. Raises InvalidFile."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(msgspec.json.format(msgspec.json.encode(journal)) + b"\n")
        os.replace(part, path)
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be written: {error.strerror}") from error


def remove(path: Path) -> None:
    """Delete a journal, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
