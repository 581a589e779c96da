"""The rows of GPUs and models: the shipped ones, and those of a user's own files.

Owns the formats `cuvee-gpus/1` and `cuvee-models/1`, and what a GPU or a model may be given as: a
name, its numbers, or a path. Knows nothing of engines, profiles or prices.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from planner import shipped
from planner.engine import huggingface
from planner.engine.hardware import Gpu, Model
from planner.errors import InvalidFile
from planner.files import converted, decoded, lines

Row = TypeVar("Row", Gpu, Model)


class GpuFile(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A file of GPUs; the rows are read one by one, so that errors can name them."""

    format: Literal["cuvee-gpus/1"]
    gpus: dict[str, Any]


class ModelFile(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A file of models; the rows are read one by one, so that errors can name them."""

    format: Literal["cuvee-models/1"]
    models: dict[str, Any]


@cache
def gpus() -> Mapping[str, Gpu]:
    """The shipped GPU types by name."""
    return read_gpus(shipped.folder() / "gpus.yaml")


@cache
def models() -> Mapping[str, Model]:
    """The shipped models by name."""
    return read_models(shipped.folder() / "models.yaml")


def read_gpus(path: Path) -> dict[str, Gpu]:
    """The rows of a file of GPUs. Raises InvalidFile naming the file, the row and the key."""
    return _rows(path, "gpus", decoded(path, GpuFile).gpus, Gpu)


def read_models(path: Path) -> dict[str, Model]:
    """The rows of a file of models. Raises InvalidFile naming the file, the row and the key."""
    return _rows(path, "models", decoded(path, ModelFile).models, Model)


def find_gpu(given: str | Gpu, root: Path) -> Gpu | None:
    """A GPU as a profile gives it: a shipped name, its numbers, or the path of a file of GPUs.

    `None` for a name without a row. Raises InvalidFile for a file that has not exactly one row.
    """
    if isinstance(given, Gpu):
        return given
    if shipped.is_path(given, root):
        return _only(root / given, "gpus", read_gpus(root / given))
    return shipped.lookup(given, gpus())


def find_model(given: str | Model, root: Path) -> Model | None:
    """A model as a profile gives it: a shipped name, its numbers, or the path of a file.

    The file is a Hugging Face `config.json`, or a file of models with one row. `None` for a name
    without a row. Raises InvalidFile.
    """
    if isinstance(given, Model):
        return given
    if not shipped.is_path(given, root):
        return shipped.lookup(given, models())
    path = root / given
    if path.suffix.lower() == ".json":
        return huggingface.read_model(path)
    return _only(path, "models", read_models(path))


def _rows(path: Path, key: str, entries: Mapping[str, Any], row: type[Row]) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    problems: list[str] = []
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            problems.append(f"{key}.{name}: must be a mapping of its numbers")
            continue
        rows[name], wrong = converted({"name": name} | entry, row, f"{key}.{name}")
        problems += wrong
    if problems:
        raise InvalidFile(lines(path, problems))
    return rows


def named(gpu: str, model: str) -> tuple[str | Gpu, str | Model]:
    """GPU and model for a profile file: figures from a file are written into it, names are kept.

    Raises InvalidFile as `find_gpu` and `find_model` do.
    """
    root = Path()
    return (
        (find_gpu(gpu, root) or gpu) if shipped.is_path(gpu, root) else gpu,
        (find_model(model, root) or model) if shipped.is_path(model, root) else model,
    )


def _only(path: Path, key: str, rows: Mapping[str, Row]) -> Row:
    if len(rows) != 1:
        raise InvalidFile(f"{path}: {key}: a profile needs a file with one row, not {len(rows)}")
    return next(iter(rows.values()))
