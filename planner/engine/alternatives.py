"""The engine configurations that could stand in place of a profile's own: "any of these".

Every combination of the stated values is one alternative: a profile, or the reason why there is
none. Knows no prices, no pools and no SLOs: which alternatives are worth having is the planner's.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path

import msgspec

from planner import shipped
from planner.engine import catalogue, profiles
from planner.engine.hardware import Gpu
from planner.engine.profiles import Profile, ProfileFile
from planner.errors import InvalidValue

Setup = tuple[str, int, int | None, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The values that a configuration of the engine may take, by the keys of a profile's file.

    An empty tuple leaves a key as the profile has it.
    """

    gpu: tuple[str, ...] = ()
    tensor_parallel_size: tuple[int, ...] = ()
    dtype: tuple[str, ...] = ()
    max_num_seqs: tuple[int, ...] = ()
    max_model_len: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """One combination of choices, which could stand in place of a profile.

    label: `2xH100-fp8`, unique among those of one profile. profile: `None` where an engine would
    not start so; reason: then says why, in one line.
    """

    label: str
    profile: Profile | None = None
    reason: str | None = None


def setup(profile: Profile) -> Setup:
    """What tells one configuration of an engine from another: GPU type, GPUs, bytes per weight
    (`None` if they are unknown), and the limits of sequences and context."""
    width = None if profile.roofline is None else profile.roofline.weight_bytes
    return profile.gpu, profile.gpus, width, profile.max_num_seqs, profile.max_model_len


def alternatives(
    base: ProfileFile, choices: Choices, root: Path, taken: Collection[Setup] = ()
) -> Iterator[Combination]:
    """Every combination of the choices, once each; the GPU varies slowest.

    base: the profile's file; what has no choice stays as it is there. Its measurements hold for
    alternatives on the same GPUs with the same dtype; the others are analytic. root: folder of the
    paths in base. taken: setups that there are already, which are left out.
    """
    keys = [field.name for field in fields(choices) if getattr(choices, field.name)]
    seen = set(taken)
    for values in product(*(dict.fromkeys(getattr(choices, key)) for key in keys)):
        chosen = dict(zip(keys, values, strict=True))
        spec = _with(base, chosen)
        try:
            profile = profiles.build(spec, root)
        except InvalidValue as error:
            reason = "; ".join(str(error).splitlines())
            yield Combination(label=_label(spec, chosen), reason=reason)
            continue
        if setup(profile) not in seen:
            seen.add(setup(profile))
            yield Combination(label=_label(spec, chosen), profile=profile)


def _with(base: ProfileFile, chosen: dict[str, str | int]) -> ProfileFile:
    """The file with these values in it, and without measurements that do not hold for them."""
    spec = msgspec.structs.replace(base, **chosen)
    if _measured(spec) == _measured(base) and base.rates is None:
        return spec
    nothing = ProfileFile(format=base.format, origin="analytic", gpu=base.gpu, model=base.model)
    measured = ("origin", "points", "rates", "baked_slo", "kv_tokens", "source")
    return msgspec.structs.replace(spec, **{key: getattr(nothing, key) for key in measured})


def _measured(spec: ProfileFile) -> tuple[str, int, str]:
    """What a measurement is about: it tells nothing about another GPU, number of them or dtype."""
    return _gpu_name(spec), spec.tensor_parallel_size, spec.dtype


def _gpu_name(spec: ProfileFile) -> str:
    """The GPU's name as its row spells it."""
    if isinstance(spec.gpu, Gpu):
        return spec.gpu.name
    row = shipped.lookup(spec.gpu, catalogue.gpus())
    return spec.gpu if row is None else row.name


def _label(spec: ProfileFile, chosen: dict[str, str | int]) -> str:
    """The GPUs, and what else was chosen."""
    count = spec.tensor_parallel_size
    parts = [_gpu_name(spec) if count == 1 else f"{count}x{_gpu_name(spec)}"]
    if "dtype" in chosen:
        parts.append(spec.dtype)
    if "max_num_seqs" in chosen:
        parts.append(f"seqs{spec.max_num_seqs}")
    if "max_model_len" in chosen:
        parts.append(f"len{spec.max_model_len}")
    return "-".join(parts)
