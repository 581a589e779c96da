"""What a plan costs for each token that it serves, and how far it is from full use.

Must not know how plans are made.
"""

from dataclasses import dataclass

import numpy as np

from planner.errors import InvalidValue
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool

SECONDS = 3600  # of an hour
MILLION = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCost:
    """The unit price of a fleet at the offered load.

    prompt_per_s, output_per_s: tokens/s that are offered. usd_per_million: dollars for a million
    tokens, prompts and answers together; usd_per_million_output: the whole bill on the answers
    alone. utilisation: the mean load of the backends in use as a share of what they could sustain,
    weighted by price; usd_per_million_full: the price at a utilisation of 1.
    """

    prompt_per_s: float
    output_per_s: float
    usd_per_million: float
    usd_per_million_output: float
    utilisation: float
    usd_per_million_full: float


def unit_cost(plan: Plan, demand: Demand, pools: tuple[Pool, ...]) -> UnitCost:
    """The unit price of a plan for its demand. Raises InvalidValue for a demand of no tokens.

    All tokens of the demand count, also those of requests of a size that no pool promises: they are
    routed all the same. Utilisation is `Σ usd·load / Σ usd·backends` over the pools.
    """
    rate = demand.rate[demand.bucket] * demand.share
    prompt, output = float(rate @ demand.input_tokens), float(rate @ demand.output_tokens)
    if not output > 0:
        raise InvalidValue("the demand has no output tokens: there is no price of one")
    usd = np.array([pool.usd_per_hour for pool in pools])
    bought = float(usd @ np.array(plan.backends))
    used = float(usd @ np.array(plan.load)) / bought if bought else 0.0
    per_million = plan.usd_per_hour * MILLION / SECONDS
    return UnitCost(
        prompt_per_s=prompt,
        output_per_s=output,
        usd_per_million=per_million / (prompt + output),
        usd_per_million_output=per_million / output,
        utilisation=used,
        usd_per_million_full=per_million / (prompt + output) * used,
    )
