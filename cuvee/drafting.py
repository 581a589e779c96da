"""Writes a first configuration where it can be used, and nothing where it cannot."""

import os
import tempfile
from pathlib import Path

from gateway.config.load import load
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


def write(parts: DraftParts, out: Path, *, keyed: bool) -> None:
    """Write a configuration and the profiles that it names, unless it could not be used.

    It is written and read elsewhere first, so that a refusal leaves nothing behind. Raises
    ConfigError, InvalidFile and OSError.
    """
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
        load(folder / out.name, environ={draft_text.KEY_ENVIRONMENT: "any"} | dict(os.environ))
    for path, text in files.items():
        (out.parent / path).parent.mkdir(exist_ok=True)
        beside = out.parent / f"{path}.new"
        beside.write_text(text)
        beside.replace(out.parent / path)
