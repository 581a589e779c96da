"""What the loop that scales has learned, and what is drained, in a file that survives restarts."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec

from gateway.cluster.drain_board import DrainNote

log = logging.getLogger("cuvee.scaling")

SAVE_S = 300.0  # between two writings


class LearnedState(msgspec.Struct, kw_only=True):
    """The file. forecast: as the forecast's `state` has it, `None` if it has none. starts: seconds
    by pool and phase. drains: those that people, or notices, asked for."""

    forecast: Any = None
    starts: dict[str, dict[str, list[float]]] = {}
    drains: tuple[DrainNote, ...] = ()


def read_state(path: Path | None) -> LearnedState:
    """What the file says; nothing without one, or of one that cannot be used, which is logged."""
    if path is None:
        return LearnedState()
    try:
        return msgspec.json.decode(path.read_bytes(), type=LearnedState)
    except FileNotFoundError:
        return LearnedState()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("%s is not used, all is learned anew: %s", path, error)
        return LearnedState()


async def write_state(path: Path, state: LearnedState) -> None:
    """Replace the file; what fails is logged."""
    data = msgspec.json.encode(state)
    try:
        await asyncio.to_thread(_replace, path, data)
    except OSError as error:
        log.warning("what was learned cannot be written to %s: %s", path, error.strerror)


def _replace(path: Path, data: bytes) -> None:
    other = path.with_name(f"{path.name}.new")
    other.write_bytes(data)
    other.replace(path)
