"""Profiles by name and from files. Knows no SLO; `profile` has what a backend can do.

A profile file (`cuvee-profile/1`) names its origin. `analytic` profiles come from the roofline,
`measured` and `imported` ones hold points at several loads, to which an engine model is
fitted. The SLO is applied when a plan is made and is never baked into the file, with one exception
that says so: tables of best rates imported from planners that fix the SLO when they profile.
"""

import re
from pathlib import Path

import msgspec

from planner import shipped
from planner.engine import catalogue, profile_file
from planner.engine.fit import fit, fit_alone
from planner.engine.hardware import ENGINES, EngineKind, Gpu, Model
from planner.engine.prefill import prompt_schedule
from planner.engine.profile import Profile as Profile
from planner.engine.profile import analytic as analytic
from planner.engine.profile_file import FORMAT as FORMAT
from planner.engine.profile_file import ProfileFile as ProfileFile
from planner.engine.roofline import Roofline, roofline
from planner.errors import InvalidFile, InvalidValue

LABEL = re.compile(r"(?:(\d+)x)?(.+)", re.ASCII)  # `H100`, `2xH100`


def find_profile(value: str, root: Path) -> Profile:
    """The profile that a configuration's value names; a path is relative to root.

    `MODEL/GPU` and `MODEL/2xGPU` name a shipped file, or else the analytic profile of the two rows
    with the engine's defaults. Raises InvalidFile and InvalidValue.
    """
    path = _path(value, root)
    return build(_of_rows(value)) if path is None else read_profile(path)


def find_file(value: str, root: Path) -> tuple[ProfileFile, Path]:
    """The profile's file that a configuration's value names, and the folder of the paths in it.

    Takes what `find_profile` takes, and raises what it does.
    """
    path = _path(value, root)
    if path is None:
        return _of_rows(value), root
    return profile_file.read(path), path.parent


def _path(value: str, root: Path) -> Path | None:
    """The file that a value names; `None` where it names rows."""
    if shipped.is_path(value, root):
        return root / value
    return shipped.lookup(value, shipped.shelf("profiles"))


def read_profile(path: Path) -> Profile:
    """Reads a profile file. Raises InvalidFile, a line for each mistake with the file and key."""
    spec = profile_file.read(path)
    try:
        return _profile(spec, path.parent)
    except InvalidValue as error:
        raise InvalidFile(f"{path}: {error}") from error


def build(spec: ProfileFile, root: Path = Path()) -> Profile:
    """The profile that spec describes, its points fitted. root: folder of the paths in spec.

    Raises InvalidValue naming the keys, and InvalidFile for a file that spec names.
    """
    profile_file.check(spec, root)
    return _profile(spec, root)


def _profile(spec: ProfileFile, root: Path) -> Profile:
    """The profile of a file without mistakes; its model may still not fit into the memory."""
    gpu, model = catalogue.find_gpu(spec.gpu, root), catalogue.find_model(spec.model, root)
    engine = shipped.lookup(spec.engine, ENGINES)
    assert engine is not None  # checked by profile_file
    backend, calibration = None, None
    seats = spec.max_num_seqs or engine.default_sequences(gpu)
    longest = profile_file.max_model_len(spec, model)
    prompts = prompt_schedule(engine.schedule, spec.max_num_batched_tokens, seats, longest)
    if gpu is not None and model is not None:
        backend = _backend(spec, gpu, model, engine)
        calibration = fit(spec.points, backend, prompts) if spec.points else None
    else:
        calibration = fit_alone(spec.points, prompts)
    return Profile(
        gpu=str(spec.gpu) if gpu is None else gpu.name,
        model=str(spec.model) if model is None else model.name,
        gpus=spec.tensor_parallel_size,
        roofline=backend,
        max_num_seqs=seats,
        max_num_batched_tokens=spec.max_num_batched_tokens,
        max_model_len=longest,
        origin=spec.origin,
        calibration=calibration,
        rates=spec.rates,
        baked_slo=spec.baked_slo,
        kv_tokens=spec.kv_tokens,
        usd_per_gpu_hour=None if gpu is None else gpu.usd_per_hour,
        schedule=engine.schedule,
        engine_version=spec.engine_version,
    )


def _backend(spec: ProfileFile, gpu: Gpu, model: Model, engine: EngineKind) -> Roofline:
    width = 1 if spec.dtype == "fp8" else 2
    count = spec.tensor_parallel_size
    try:
        return roofline(gpu, model, engine, gpus=count, weight_bytes=width, kv_bytes=width)
    except InvalidValue as error:  # a model that is published in fp8, on a GPU without
        raise InvalidValue(f"model: {model.name} has fp8 weights: {error}") from error


def _of_rows(name: str) -> ProfileFile:
    """The analytic profile of a built-in name, as a file. Raises InvalidValue naming what is
    unknown."""
    model_name, slash, label = name.rpartition("/")
    match = LABEL.fullmatch(label)
    if not slash or match is None:
        raise InvalidValue(
            f"`{name}` is no built-in name (MODEL/GPU) and no path (it ends in .yaml)"
        )
    model = shipped.lookup(model_name, catalogue.models())
    gpu = shipped.lookup(match[2], catalogue.gpus())
    if model is None:
        raise InvalidValue(f"model: {shipped.unknown(model_name, catalogue.models())}")
    if gpu is None:
        raise InvalidValue(f"gpu: {shipped.unknown(match[2], catalogue.gpus())}")
    return ProfileFile(
        format=FORMAT,
        origin="analytic",
        gpu=gpu,
        model=model,
        tensor_parallel_size=int(match[1] or 1),
    )


def write(spec: ProfileFile, path: Path) -> None:
    """Writes a profile file. Raises InvalidFile if it cannot be written."""
    try:
        path.write_bytes(msgspec.yaml.encode(spec))
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be written: {error.strerror}") from error
