"""Writes a first configuration where it can be used, and nothing where it cannot."""

import os
import tempfile
from pathlib import Path

from gateway.config.load import load
from gateway.errors import ConfigError
from gateway.preflight import draft_text
from gateway.preflight.draft import TPOT_S, TTFT_S, DraftParts
from planner import shipped
from planner.engine import profiles
from planner.slo import Slo


def promised(ttft_s: float | None, tpot_s: float | None) -> Slo | None:
    """The promise that two options make, with a default for one that is not given; `None` without
    either."""
    if ttft_s is None and tpot_s is None:
        return None
    return Slo(ttft_s=ttft_s or TTFT_S, tpot_s=tpot_s or TPOT_S)


def write(parts: DraftParts, out: Path, *, keyed: bool, force: bool = False) -> list[Path]:
    """Write a configuration and the profiles that it names, unless it could not be used; returns
    their paths.

    It is written and read elsewhere first, so that a refusal leaves nothing behind. force: write
    over files that are there and say something else. Raises ConfigError, InvalidFile and OSError.
    """
    texts = {out.parent / path: text for path, text in _tried(parts, out, keyed).items()}
    other = [path for path, text in texts.items() if path.exists() and not _holds(path, text)]
    if other and not force:
        names = ", ".join(map(str, other))
        raise FileExistsError(f"already there, with another content: {names}; --force writes over")
    for path, text in texts.items():
        path.parent.mkdir(exist_ok=True)
        beside = path.with_name(f"{path.name}.new")
        beside.write_text(text)
        beside.replace(path)
    return list(texts)


def _tried(parts: DraftParts, out: Path, keyed: bool) -> dict[str, str]:
    """The texts of a configuration and its profiles, by their paths beside it, once they were read
    in a folder of their own."""
    schema = str(shipped.folder() / "schema.json")
    files = {out.name: draft_text.text(parts, schema=schema, keyed=keyed)}
    with tempfile.TemporaryDirectory(prefix="cuvee-init-") as name:
        folder = Path(name)
        for pool in parts.pools:
            if pool.file is not None:
                (folder / pool.profile).parent.mkdir(exist_ok=True)
                profiles.write(pool.file, folder / pool.profile)
                files[pool.profile] = (folder / pool.profile).read_text()
        (folder / out.name).write_text(files[out.name])
        try:
            load(folder / out.name, environ={draft_text.KEY_ENVIRONMENT: "any"} | dict(os.environ))
        except ConfigError as error:  # people have no use for a folder that is gone
            wanted = str(out.parent / "_").removesuffix("_")
            problems = (line.replace(f"{folder}/", wanted) for line in error.problems)
            raise ConfigError(tuple(problems)) from error
    return files


def _holds(path: Path, text: str) -> bool:
    return path.read_bytes() == text.encode()
