"""Makes the parts of a first configuration from what engines said.

Everything that nobody said is assumed, and told as such. No I/O but the data that ships.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from gateway.config.addresses import LOOPBACK, canonical_host
from gateway.config.domains import ADMIN_PORT
from gateway.preflight.introduction import Introduced
from planner import shipped
from planner.costs import prices
from planner.document import shown
from planner.engine import catalogue, naming
from planner.engine.profile import Profile
from planner.engine.profile_file import ProfileFile
from planner.engine.profiles import LABEL, build, find_file
from planner.errors import InvalidValue
from planner.slo import Slo

TTFT_S, TPOT_S = 2.0, 0.1  # promises where the fleet can keep them
ROOM = (
    2.5  # times what a request takes alone, where it cannot: a full engine is slower than an idle
)
SIZE = (1024.0, 256.0)  # tokens of the request that this is counted for
FAMILIES = {"sglang": "sglang", "tgi": "tgi"}  # engines whose constants are not those of vLLM
OLD_VLLM = ("0.1.", "0.2.", "0.3.", "0.4.", "0.5.", "0.6.", "0.7.")  # its first engine
NEAR = 0.25  # between the KV of an engine and of a GPU that it may have, as a share
MORE_KV = 1.1  # times what the profile says: less is the roundness of engines' blocks
OTHER = 0.6  # what should fit over what does: beyond, it is hardly the same GPU
PARALLEL = (1, 2, 4, 8)
UNPRICED_USD = 1.0
BYTES = {8: 1.0, 4: 0.5}  # of a weight, by its bits


class SeatedEngine(NamedTuple):
    """An engine with what it cannot say itself. gpu: `H100` or `2xH100`. weights: a model's name,
    or a path that `catalogue.find_model` takes. kubernetes: the section that finds it, empty if its
    URL is listed."""

    told: Introduced
    gpu: str
    weights: str
    kubernetes: Mapping[str, Any] = {}


class DraftPool(NamedTuple):
    """One pool. engines: at least one. profile: the value of its key. file: what stands in it if it
    is not built in. usd: `None` where the price list has it. told: what its engines said."""

    name: str
    model: str
    engines: tuple[SeatedEngine, ...]
    profile: str
    built: Profile
    file: ProfileFile | None
    usd: float | None

    @property
    def told(self) -> Introduced:
        return self.engines[0].told


class DraftParts(NamedTuple):
    """A whole first configuration. promises, adapters: by model. prices: name of the list, or
    `None`. port, admin_port: free of the engines' own. assumed: what nobody said, a line each."""

    pools: tuple[DraftPool, ...]
    promises: Mapping[str, Slo]
    adapters: Mapping[str, tuple[str, ...]]
    prices: str | None
    port: int
    admin_port: int
    assumed: tuple[str, ...]


def weights_of(told: Introduced) -> str | None:
    """The shipped model that an engine has, by the name of its weights or of its model."""
    names = [name for name in (told.weights, told.model) if name]
    found = (naming.model_of(name, catalogue.models()) for name in names)
    return next((one for one in found if one is not None), None)


def likely_gpus(told: Introduced, weights: str) -> list[str]:
    """GPU types that an engine may have by the tokens of KV that fit into it, the likeliest first;
    none where it does not say them."""
    tokens = told.limits.kv_tokens
    if tokens is None:
        return []
    off: dict[str, float] = {}
    for count in PARALLEL:
        for gpu in catalogue.gpus():
            label = gpu if count == 1 else f"{count}x{gpu}"
            if capacity := _capacity(told, label, weights):
                off[label] = abs(capacity / tokens - 1)
    return sorted((label for label, share in off.items() if share < NEAR), key=lambda one: off[one])


def _capacity(told: Introduced, gpu: str, weights: str) -> int:
    """Tokens of KV that should fit into an engine on this GPU; 0: not even the weights do."""
    try:
        spec = msgspec.structs.replace(_spec(told, gpu, weights), kv_tokens=None)
        return build(spec).kv_capacity
    except InvalidValue:
        return 0


def drafted(engines: Sequence[SeatedEngine], promise: Slo | None = None) -> DraftParts:
    """The parts of a configuration for these engines, pools in their order.

    promise: of every model; `None`: one that the fleet can keep. Raises InvalidValue, and
    InvalidFile of a model's file, for a GPU that a model does not fit into.
    """
    grouped: dict[tuple[object, ...], list[SeatedEngine]] = {}
    for one in engines:
        where = tuple(sorted((key, str(value)) for key, value in one.kubernetes.items()))
        key = one.told.model, one.weights, one.gpu, one.told.engine, where
        grouped.setdefault(key, []).append(one)
    listed = _price_list([_gpu(one.gpu) for one in engines])
    told = [one.told for one in engines]
    models = dict.fromkeys(one.told.model for one in engines)
    pools: list[DraftPool] = []
    for group in grouped.values():
        name = _free(_plain(group[0], several=len(models) > 1), {pool.name for pool in pools})
        pools.append(_pool(name, tuple(group), listed))
    promises = {
        model: promise or _promise([pool.built for pool in pools if pool.model == model])
        for model in models
    }
    adapters = {
        model: tuple(dict.fromkeys(a for one in told if one.model == model for a in one.adapters))
        for model in models
    }
    taken = {_port(one.told.url) for one in engines} - {None}
    port = next(port for port in (8000, 8080, 8100, *range(8101, 8200)) if port not in taken)
    admin = next(port for port in range(ADMIN_PORT, ADMIN_PORT + 100) if port not in taken)
    assumed = tuple(_assumed(pools, promises, listed[0], given=promise is not None))
    return DraftParts(tuple(pools), promises, adapters, listed[0], port, admin, assumed)


def _pool(
    name: str, engines: tuple[SeatedEngine, ...], listed: tuple[str | None, Mapping[str, float]]
) -> DraftPool:
    first = engines[0]
    told = first.told
    for one in engines[1:]:  # a pool can do what its least engine can
        told = told._replace(limits=told.limits.least(one.told.limits))
    builtin = f"{first.weights}/{first.gpu}"
    spec = _spec(told, first.gpu, first.weights)
    try:
        built = build(spec)
    except InvalidValue as error:
        raise InvalidValue(f"{told.url}: {error} Is its GPU {first.gpu}?") from error
    own = None if _ships(builtin, first.weights, spec, built) else spec
    gpu = _gpu(first.gpu)
    usd = None
    if gpu not in listed[1] and built.usd_per_gpu_hour is None:
        usd = UNPRICED_USD * built.gpus
    profile = builtin if own is None else f"profiles/{name}.yaml"
    seats = (first._replace(told=told), *engines[1:])
    return DraftPool(name, told.model, seats, profile, built, own, usd)


def _ships(builtin: str, weights: str, spec: ProfileFile, built: Profile) -> bool:
    """Whether the built-in profile says all that the engine says. That fewer tokens of KV or fewer
    requests fit the gateway finds by itself; another context is a mismatch for `check --connect`,
    and wider limits must stand in a profile."""
    if _has_path(weights):
        return False
    known, _ = find_file(builtin, shipped.folder())
    try:
        plain = build(known)
    except InvalidValue:  # it does not fit, but for weights of fewer bits, say
        return False
    return (
        spec.engine == known.engine
        and catalogue.find_model(spec.model, Path()) == catalogue.find_model(known.model, Path())
        and built.max_model_len == plain.max_model_len
        and built.kv_capacity <= MORE_KV * plain.kv_capacity
    )


def _spec(told: Introduced, gpu: str, weights: str) -> ProfileFile:
    """The profile of an engine as a file: what ships, with what the engine said of itself."""
    match = LABEL.fullmatch(gpu)
    assert match is not None  # the pattern takes every text
    if _has_path(weights):
        model = catalogue.find_model(weights, shipped.folder().parent)
        spec = ProfileFile(
            format="cuvee-profile/1", origin="analytic", gpu=match[2], model=model or weights,
            tensor_parallel_size=int(match[1] or 1),
        )  # fmt: skip
        if catalogue.find_gpu(match[2], shipped.folder()) is None:
            raise InvalidValue(f"gpu: {shipped.unknown(match[2], catalogue.gpus())}")
    else:
        spec, _ = find_file(f"{weights}/{gpu}", shipped.folder())
    # Rows stand in a built-in file by their numbers; a file for people has their names.
    if not isinstance(spec.gpu, str) and spec.gpu == catalogue.gpus().get(spec.gpu.name):
        spec = msgspec.structs.replace(spec, gpu=spec.gpu.name)
    if not isinstance(spec.model, str) and spec.model == catalogue.models().get(spec.model.name):
        spec = msgspec.structs.replace(spec, model=spec.model.name)
    bits = naming.weight_bits(told.weights or told.model)
    narrowed = None if bits is None else _narrowed(spec, bits)
    return msgspec.structs.replace(
        narrowed or spec,
        engine=_family(told),
        max_model_len=told.limits.context or spec.max_model_len,
        max_num_seqs=told.limits.sequences or spec.max_num_seqs,
        kv_tokens=told.limits.kv_tokens,
    )


def _narrowed(spec: ProfileFile, bits: int) -> ProfileFile | None:
    """The same with weights of fewer bits; `None` where the GPU has no such units."""
    model = catalogue.find_model(spec.model, shipped.folder())
    if model is None or model.weight_bytes is not None:  # published with fewer bits
        return None
    narrow = msgspec.structs.replace(model, weight_bytes=BYTES[bits])
    changed = msgspec.structs.replace(spec, model=narrow, points=(), origin="analytic")
    try:
        build(changed)
    except InvalidValue:
        return None
    return changed


def _family(told: Introduced) -> str:
    if told.engine in FAMILIES:
        return FAMILIES[told.engine]
    old = (told.version or "").removeprefix("v").startswith(OLD_VLLM)
    return "vllm-v0" if old else "vllm-v1"


def _has_path(weights: str) -> bool:
    return shipped.lookup(weights, catalogue.models()) is None


def _promise(profiles: Sequence[Profile]) -> Slo:
    """A promise that the slowest pool of a model can keep with several requests at a time."""
    ttft_s, tpot_s = TTFT_S, TPOT_S
    for one in profiles:
        inputs = min(SIZE[0], one.max_model_len / 2)
        outputs = min(SIZE[1], one.max_model_len / 4)
        alone_ttft_s = float(one.times.prefill_s(inputs) + one.times.decode_s(1.0, inputs))
        ttft_s = max(ttft_s, ceil(2 * ROOM * alone_ttft_s))
        tpot_s = max(tpot_s, ceil(ROOM * float(one.tpot_s(1.0, inputs, outputs)) * 50) / 50)
    return Slo(ttft_s=ttft_s, tpot_s=tpot_s)


def _price_list(gpus: Sequence[str]) -> tuple[str | None, Mapping[str, float]]:
    """The price list that has the most of these GPU types, of equal ones the newest by its name."""
    best: tuple[str | None, Mapping[str, float]] = (None, {})
    known = 0
    for name, path in shipped.shelf("prices").items():
        usd = prices.read_prices(path)
        count = len(set(gpus) & usd.keys())
        if count >= max(known, 1):
            best, known = (name, usd), count
    return best


def _assumed(
    pools: Sequence[DraftPool], promises: Mapping[str, Slo], listed: str | None, *, given: bool
) -> Iterator[str]:
    """What nobody said, a line each."""
    for model, slo in () if given else promises.items():
        yield (
            f"{shown(model)}: a promise of TTFT {slo.ttft_s:g} s and TPOT {slo.tpot_s * 1e3:g} ms "
            f"for {slo.attainment * 100:g} % of the requests"
        )
    for pool in pools:
        measured = "measured" if pool.built.origin == "measured" else "not measured: the formula's"
        yield f"{pool.name}: speed of {pool.built.model} on {pool.built.gpu_label}, {measured}"
        first = pool.engines[0]
        told, should = pool.told.limits.kv_tokens, _capacity(pool.told, first.gpu, first.weights)
        if told is not None and not OTHER < (should / told) < 1 / OTHER:
            yield (
                f"{pool.name}: {first.gpu}, though {told:,} tokens of KV fit into the engine and "
                f"{should:,} should: is that its GPU?"
            )
        if pool.usd is not None:
            yield f"{pool.name}: ${pool.usd:.2f}/h, because no price list has {pool.built.gpu}"
    if listed is not None and any(pool.usd is None for pool in pools):
        yield f"prices of the list {listed}"


def _plain(engine: SeatedEngine, *, several: bool) -> str:
    """A name of a pool: `h100`, or `qwen3-8b-h100` where there are several models."""
    model = engine.told.model.rpartition("/")[2] + "-" if several else ""
    text = f"{model}{engine.gpu}".casefold()
    return "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "-" for c in text)


def _free(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    return next(one for n in range(2, 1000) if (one := f"{name}-{n}") not in taken)


def _gpu(label: str) -> str:
    match = LABEL.fullmatch(label)
    return label if match is None else match[2]


def _port(url: str) -> int | None:
    """The port of an engine on this machine."""
    parts = urlsplit(url)
    return parts.port if canonical_host(parts.hostname or "") == LOOPBACK else None
