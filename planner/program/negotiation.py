"""What each model would buy: offers, of which the best that fit together are a fleet of them all.

Offers come from small programs of one model: at its own prices; at prices that make scarce GPUs
dear, which are Lagrange multipliers of the stocks, moved along the subgradient (Held, Wolfe and
Crowder 1974) and give a bound that no fleet undercuts; and from what other models leave, in turns.
Must not know the solver (`lp.Program` stands for it), time, or plans.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from planner.program import search
from planner.program.lp import Program
from planner.program.parts import ModelPart, cut, model_parts, part_costs
from planner.program.subproblem import DUST, EXACT, Incumbent, Subproblem
from planner.sizes import FloatArray

# Of prices. Over five problems "six models" of `cuvee bench-solve` fleets were 12 to 18 % dearer
# without them; 8 and 16 rounds gave the same fleets as 4.
ROUNDS = 4
TURNS = 4  # of all models, each in another order; over the same problems 8 gave no cheaper fleet
BEAM = 1000  # combinations of offers that are kept after each model
LEAST_STEP = 0.01  # of prices: as if the bound were at least this part below the best fleet
Programs = Callable[[Subproblem], Program]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelOffer:
    """A fleet of one model.

    lost: requests/s that it leaves unserved. takes: (k + 1,) GPUs of each stock, and $/h of the
    bill. bound_usd: $/h that no fleet of the model undercuts at the prices of the moment.
    """

    fleet: Incumbent
    lost: float
    takes: FloatArray
    bound_usd: float = 0.0


class Negotiation:
    """The offers of all models of a subproblem."""

    def __init__(self, whole: Subproblem, programs: Programs) -> None:
        """programs: makes the program of a subproblem; all of them end at the same time."""
        self._whole, self._programs = whole, programs
        self._program: Program | None = None  # the last one, which knows the time
        self._parts = model_parts(whole)
        self._limits = np.append(whole.bounds.stock, whole.bounds.budget_usd)
        # Nothing at all fits always.
        self._offers = [[self._nothing(part)] for part in self._parts]
        self._solved: dict[tuple[int, bytes, bytes], ModelOffer] = {}
        self._agreed = [offers[0] for offers in self._offers]  # the best that fit together so far
        self._usd = whole.costs.usd  # at which models choose
        self._bound = 0.0  # $/h that no fleet for all demand undercuts
        self.fits = self.short = False

    def ask(self) -> None:
        """Let every model offer the fleet that it would have for itself.

        Sets whether all of these fit together, and whether one is short of serving its demand.
        """
        wanted = [self._add(i, self._limits) for i in range(len(self._parts))]
        self._needs = np.array([offer.takes for offer in wanted])
        self.fits = bool(np.all(self._needs.sum(axis=0) <= self._limits + EXACT))
        self.short = any(offer.lost > DUST for offer in wanted)
        if self.fits or not self.short:
            self._bound = sum(offer.bound_usd for offer in wanted)

    def haggle(self, prices: FloatArray | None) -> None:
        """Let every model offer what it would have if scarce GPUs were dear.

        prices: (m,) of a backend in the relaxation of all models, where there is one.
        """
        whole = self._whole
        gpus, stock = whole.bounds.gpus, whole.bounds.stock
        scarce = np.zeros(len(stock)) if prices is None else _scarcity(whole, prices)
        part = 1.0
        for _ in range(ROUNDS):
            self._usd = whole.costs.usd + scarce @ gpus
            offers = [self._add(i, self._limits) for i in range(len(self._parts))]
            if any(offer.lost > DUST for offer in offers):  # for want of time: that is no bound
                break
            over = np.sum([offer.takes[:-1] for offer in offers], axis=0) - stock
            bound = sum(offer.bound_usd for offer in offers) - float(scarce @ stock)
            # A step that proved no more was too far.
            part = part if bound > self._bound else part / 2
            self._bound = max(self._bound, bound)
            best = self.best()
            # Where the scarce is free already, a stock that is not used up stays free.
            moved = np.where((scarce > 0) | (over > 0), over, 0.0)
            if self.spent or not moved.any() or self.settled:
                break
            ahead = best.usd - bound if self.serves_all else 0.0
            step = part * max(ahead, LEAST_STEP * bound) / float(moved @ moved)
            scarce = np.maximum(0.0, scarce + step * moved)
        self._turn(self._order(), [self._limits] * len(self._parts))
        self._usd = whole.costs.usd

    def divide(self, weights: FloatArray) -> None:
        """Let the models choose from what shares of the relaxation take, in whole backends.

        weights: (n, m) shares that leave least unserved.
        """
        need, gpus = self._whole.need(weights), self._whole.bounds.gpus
        parts = []
        for part in self._parts:
            columns = part.columns
            taken, each = gpus[:, columns] @ need[columns], gpus[:, columns]
            unit = np.where(each > 0, each, np.inf).min(axis=1, initial=np.inf)
            parts.append(np.append(np.ceil(taken / unit - EXACT) * np.minimum(unit, 1e9), np.inf))
        self._turn(self._order(), parts)

    def take_turns(self) -> None:
        """Let the models choose from what others leave, those first that need least per request.

        Models that could not be served in full go first in the next turn, where all could be.
        """
        order, seen = self._order(), set()
        for _ in range(1 if self.short else TURNS):
            seen.add(tuple(order))
            lost = self._turn(order, [self._limits] * len(order))
            order = [i for i in order if i in lost] + [i for i in order if i not in lost]
            if tuple(order) in seen or self.spent:
                break

    def improve(self) -> bool:
        """Let each model choose again from what the best offers of the others leave; returns
        whether that made a better fleet."""
        before = _rank(self._chosen())
        for i in reversed(self._order()):
            if not self.spent:
                others = [offer.takes for j, offer in enumerate(self._chosen()) if j != i]
                self._add(i, self._limits - np.sum(others, axis=0))
        return _rank(self._chosen()) < before

    @property
    def spent(self) -> bool:
        """Whether the time is up."""
        return self._program is not None and self._program.spent

    @property
    def settled(self) -> bool:
        """Whether the best offers serve everything, and their gap is small enough."""
        enough = 0.0 if self._program is None else self._program.gap
        return self.serves_all and self.best().gap <= enough

    @property
    def serves_all(self) -> bool:
        """Whether the best offers serve everything."""
        return sum(offer.lost for offer in self._chosen()) <= DUST

    def better(self, found: Incumbent, best: Incumbent) -> Incumbent:
        """The better of two fleets, with the gap that the bound of all models proves."""
        lost = self._whole.lost
        fleet = min(found, best, key=lambda one: (round(lost(one.weights), 6), one.usd))
        return replace(fleet, gap=min(fleet.gap, self._gap(fleet)))

    def best(self) -> Incumbent:
        """The fleet of the offers that together leave least unserved, and of those the cheapest."""
        return self._joined([offer.fleet for offer in self._chosen()])

    def _order(self) -> list[int]:
        """The models, those first that need least of what is contested, per request/s."""
        contested = self._needs.sum(axis=0) > self._limits
        rate = [float(self._whole.rate[part.rows].sum()) for part in self._parts]
        per_request = self._needs[:, contested].sum(axis=1) / rate
        order: list[int] = np.argsort(per_request, kind="stable").tolist()
        return order

    def _chosen(self) -> list[ModelOffer]:
        """An offer of each model, the best combination that fits.

        A beam search over the models: after each, the best `BEAM` combinations are kept.
        """
        least = [offers[0].takes for offers in self._offers]
        rest = np.sum(least, axis=0)
        picks = np.zeros((1, 0), dtype=np.int64)
        taken, lost, usd = np.zeros((1, len(self._limits))), np.zeros(1), np.zeros(1)
        for offers, own in zip(self._offers, least, strict=True):
            rest = rest - own
            n = len(offers)
            prefix, added = np.repeat(np.arange(len(usd)), n), np.tile(np.arange(n), len(usd))
            taken = taken[prefix] + np.array([offer.takes for offer in offers])[added]
            lost = lost[prefix] + np.array([offer.lost for offer in offers])[added]
            usd = usd[prefix] + np.array([offer.fleet.usd for offer in offers])[added]
            fits = np.flatnonzero(np.all(taken <= self._limits - rest + EXACT, axis=1))
            rank = fits[np.lexsort((usd[fits], np.round(lost[fits], 6)))[:BEAM]]
            picks = np.hstack([picks[prefix[rank]], added[rank, None]])
            taken, lost, usd = taken[rank], lost[rank], usd[rank]
        found = [offers[i] for offers, i in zip(self._offers, picks[0], strict=True)]
        self._agreed = min(self._agreed, found, key=_rank)
        return self._agreed

    def _add(self, i: int, limits: FloatArray) -> ModelOffer:
        """The offer of a model within (k + 1,) limits."""
        key = i, limits.tobytes(), self._usd.tobytes()
        if key not in self._solved:
            self._solved[key] = self._offer(i, limits)
        return self._solved[key]

    def _offer(self, i: int, limits: FloatArray) -> ModelOffer:
        """Solve for one model, and keep its offer where no known one is as good."""
        part, costs = self._parts[i], self._whole.costs
        one = cut(self._whole, part, limits, self._usd)
        self._program = self._programs(one)
        fleet = search.min_cost(one, self._program)
        true = replace(one.costs, usd=costs.usd[part.columns])
        offer = ModelOffer(
            bound_usd=fleet.usd * (1 - fleet.gap),
            fleet=replace(fleet, usd=float(true.total(fleet.backends))),
            lost=one.lost(fleet.weights),
            takes=np.append(one.bounds.gpus @ fleet.backends, true.bill(fleet.backends)),
        )
        same = (o for o in self._offers[i] if np.array_equal(o.fleet.backends, fleet.backends))
        if all(offer.lost < other.lost for other in same):
            self._offers[i].append(offer)
        return offer

    def _turn(self, order: list[int], most: list[FloatArray]) -> set[int]:
        """Serve the models in this order, each with at most (k + 1,) of all that is left; returns
        those that could not be served in full."""
        least = [offers[0].takes for offers in self._offers]
        taken, short = np.sum(least, axis=0), set()
        agreed = [offers[0] for offers in self._offers]
        for i in order:
            if self.spent:
                break
            left = self._limits - taken + least[i]
            agreed[i] = self._add(i, np.maximum(least[i], np.minimum(left, most[i])))
            taken = taken - least[i] + agreed[i].takes
            if agreed[i].lost > DUST:
                short.add(i)
        self._agreed = min(self._agreed, agreed, key=_rank)
        return short

    def _nothing(self, part: ModelPart) -> ModelOffer:
        """The least counts of one model, which serve nothing."""
        whole, columns = self._whole, part.columns
        backends = whole.bounds.least[columns]
        costs = part_costs(whole, part, whole.costs.usd)
        return ModelOffer(
            fleet=Incumbent(
                weights=np.zeros((len(part.rows), len(columns))),
                backends=backends,
                usd=float(costs.total(backends)),
            ),
            lost=float(whole.rate[part.rows].sum()),
            takes=np.append(whole.bounds.gpus[:, columns] @ backends, costs.bill(backends)),
        )

    def _joined(self, fleets: list[Incumbent]) -> Incumbent:
        """The fleets of all models as one, with its gap."""
        whole = self._whole
        weights, backends = np.zeros_like(whole.mean), np.zeros(len(whole.costs.usd))
        for part, fleet in zip(self._parts, fleets, strict=True):
            weights[np.ix_(part.rows, part.columns)] = fleet.weights
            backends[part.columns] = fleet.backends
        usd = float(whole.costs.total(backends))
        fleet = Incumbent(weights=weights, backends=backends, usd=usd)
        return replace(fleet, gap=self._gap(fleet))

    def _gap(self, fleet: Incumbent) -> float:
        """The part of a fleet's cost that is not proven to be needed."""
        bound = self._whole.fluid_bound(fleet.weights.sum(axis=1))
        if self.fits or self._whole.lost(fleet.weights) <= DUST:
            bound = max(bound, self._bound)
        return max(0.0, 1 - bound / fleet.usd) if fleet.usd > 0 else 0.0


def _rank(offers: list[ModelOffer]) -> tuple[float, float]:
    """What the best offers have least of: requests/s unserved up to rounding, then $/h."""
    return round(sum(one.lost for one in offers), 6), sum(one.fleet.usd for one in offers)


def _scarcity(whole: Subproblem, prices: FloatArray) -> FloatArray:
    """(k,) $/h of one GPU of each stock, from (m,) prices of a backend in the relaxation.

    Such a price is that of the backend and of its GPUs; of a pool that the relaxation does not use
    it may be less. So a GPU's is the largest that any pool's price contains.
    """
    gpus, over = whole.bounds.gpus, np.maximum(prices - whole.costs.usd, 0.0)
    each = np.divide(over, gpus, where=gpus > 0, out=np.zeros_like(gpus))
    return np.asarray(each.max(axis=1, initial=0.0))
