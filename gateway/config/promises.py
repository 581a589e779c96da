"""Latency promises: given in the wrong unit, or held by no pool of their model."""

import numpy as np

from gateway.config.findings import Findings
from planner.document import under
from planner.model.buckets import DEFAULT, Buckets, SloClass
from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.headroom import bucket_loads
from planner.sizes import Grid
from planner.slo import Slo

# Promises in seconds end here; those in milliseconds mostly begin above.
LONGEST_TTFT_S = 600.0
LONGEST_TPOT_S = 10.0


def section_of(model: str, name: str) -> str:
    """The key of a class's promise."""
    where = under("models", model)
    return f"{where}.slo" if name == DEFAULT else under(f"{where}.classes", name)


def check_unit(where: str, slo: Slo, first_byte_timeout_s: float, findings: Findings) -> bool:
    """Note a promise that is given in milliseconds, or that no request waits for; returns whether
    it can be planned with. where: key of its section."""
    mistakes = unit_mistakes(slo)
    for key, text in mistakes:
        findings.problem(f"{where}.{key}", text)
    if not mistakes and slo.ttft_s > first_byte_timeout_s:
        text = (
            f"{slo.ttft_s:g} s is longer than gateway.first_byte_timeout_s, "
            f"{first_byte_timeout_s:g} s, after which a stream is given up"
        )
        findings.warning(f"{where}.ttft_s", text)
    return not mistakes


def unit_mistakes(slo: Slo) -> list[tuple[str, str]]:
    """The targets that were hardly meant in seconds: the key of each, and what is wrong with it."""
    targets = (("ttft_s", slo.ttft_s, LONGEST_TTFT_S), ("tpot_s", slo.tpot_s, LONGEST_TPOT_S))
    return [
        (key, f"is in seconds, at most {most:g}: {value:g} ms are {value / 1000:g}")
        for key, value, most in targets
        if value > most
    ]


def check_promises(
    buckets: Buckets, pools: tuple[Pool, ...], alternatives: tuple[Pool, ...], findings: Findings
) -> dict[str, str]:
    """Note promises that no pool holds for any request size, and pools that hold none.

    alternatives: pools that could be rented beside them. Returns those of them that hold no
    promise, with the reason by name.
    """
    every = (*pools, *alternatives)
    misfit = bucket_loads(Demand.none(buckets), every).misfit
    cells = misfit.reshape(len(buckets.classes), buckets.grid.cells, len(every))
    held = np.asarray((cells < 1).any(axis=1))
    for slo_class, by_pool in zip(buckets.classes, held, strict=True):
        own = [pool for pool in every if pool.model == slo_class.model]
        if own and not by_pool.any():
            best = "; ".join(f"{pool.name} {_best(pool, buckets.grid)}" for pool in own)
            text = f"no pool holds {_words(slo_class)} at any size; at best: {best}"
            findings.problem(section_of(slo_class.model, slo_class.name), text)
    useless = {}
    for p, pool in enumerate(every):
        classes = [c for c, one in enumerate(buckets.classes) if one.model == pool.model]
        if classes and not held[classes, p].any() and held[classes].any():
            promises = " or ".join(_words(buckets.classes[c]) for c in classes)
            text = f"holds no {promises} at any size; at best {_best(pool, buckets.grid)}"
            if p < len(pools):
                where = f"{under('pools', pool.name)}.profile"
                findings.warning(where, f"{pool.profile.gpu_label} {text}")
            else:
                useless[pool.name] = text
    return useless


def _words(slo_class: SloClass) -> str:
    return f"TTFT {slo_class.slo.ttft_s:g} s and TPOT {slo_class.slo.tpot_s * 1e3:g} ms"


def _best(pool: Pool, grid: Grid) -> str:
    """The least TTFT and the least TPOT of a pool, for a request alone on a backend, by size."""
    profile = pool.profile
    if profile.baked_slo is not None:
        return f"its profile is for {profile.baked_slo}"
    sizes = np.array([grid.centre(cell) for cell in range(grid.cells)], dtype=float)
    inputs, outputs = sizes[sizes.sum(axis=1) <= profile.max_model_len].T
    if not len(inputs):
        return f"no size of `buckets` fits a context of {profile.max_model_len} tokens"
    alone = np.ones_like(inputs)
    ttft_s = profile.times.prefill_s(inputs) + profile.times.decode_s(alone, inputs + outputs)
    tpot_s = profile.tpot_s(alone, inputs, outputs)
    return f"TTFT {np.min(ttft_s):.2g} s, TPOT {np.min(tpot_s) * 1e3:.2g} ms"
