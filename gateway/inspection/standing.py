"""How a gateway stands at one moment: fleet, load, promises, dollars, queue, loops. Pure."""

from typing import Any, NamedTuple

from gateway.inspection.admin_client import AdminReading


class PoolStanding(NamedTuple):
    """One pool. desired: `None` if it is not known. load: mean of its backends, 1.0 keeps the SLO
    just so. pace: `None` until it is known."""

    name: str
    up: int
    backends: int
    desired: int | None
    in_flight: int
    load: float | None
    pace: float | None


class ClassStanding(NamedTuple):
    """One SLO class. kept, missed: requests since the start. recent: share kept in the interval,
    `None` without requests."""

    model: str
    name: str
    kept: int
    missed: int
    recent: float | None

    @property
    def share(self) -> float | None:
        """Kept since the start."""
        ended = self.kept + self.missed
        return self.kept / ended if ended else None


class Standing(NamedTuple):
    """The whole gateway. Rates are of the interval, `None` without one; counts are since the start.
    compared: whether the plan's demand is known, and was planned on single GPU types too. single:
    the cheapest that could serve all of it, and its $/h. loops: that fail, with the reason.
    refusals, errors: requests."""

    url: str
    version: str
    status: str
    plan: str
    reason: str
    certified: float | None
    pools: tuple[PoolStanding, ...]
    classes: tuple[ClassStanding, ...]
    requests_per_s: float | None
    tokens_per_s: float | None
    usd_per_hour: float | None
    compared: bool
    single: tuple[str, float] | None
    queued: int
    refusals: int
    refused_per_s: float | None
    errors: int
    requests: int
    loops: dict[str, str]
    gateways: int

    def figures(self) -> dict[str, Any]:
        """As plain values."""
        single: dict[str, Any] | None = None
        if self.single is not None:
            single = {"gpu": self.single[0], "usd_per_hour": self.single[1]}
        return self._asdict() | {
            "pools": [pool._asdict() for pool in self.pools],
            "classes": [one._asdict() | {"share": one.share} for one in self.classes],
            "single": single,
        }


def standing(now: AdminReading, before: AdminReading | None = None) -> Standing:
    """How it stands. before: an earlier reading, for what happened since."""
    samples, plan = now.samples, now.value("/cuvee/plan")
    labels = next(iter(samples.of("cuvee_build_info")), ({}, 0.0))[0]
    certificate = plan.get("certificate") or {}
    loops = now.value("/cuvee/loops").get("loops") or {}
    codes = samples.by("code", "cuvee_responses_total")
    return Standing(
        url=now.url,
        version=labels.get("version", "?"),
        status=str(now.value("/readyz").get("status", "?")),
        plan=str(plan.get("plan_id", "?")),
        reason=str(plan.get("reason", "?")),
        certified=certificate.get("attainment") if certificate.get("holds") else None,
        pools=_pools(now),
        classes=_classes(now, before),
        requests_per_s=_rate(now, before, "cuvee_requests_total"),
        tokens_per_s=_rate(now, before, "cuvee_tokens_total", direction="output"),
        usd_per_hour=plan.get("usd_per_hour"),
        compared=bool(plan.get("single_types")),
        single=_single(plan),
        queued=round(samples.total("cuvee_queued_requests")),
        refusals=round(samples.total("cuvee_shed_total")),
        refused_per_s=_rate(now, before, "cuvee_shed_total"),
        errors=round(sum(count for code, count in codes.items() if code[:1] == "5")),
        requests=round(samples.total("cuvee_requests_total")),
        loops={name: loop["error"] for name, loop in loops.items() if loop.get("error")},
        gateways=round(samples.total("cuvee_cluster_gateways")) or 1,
    )


def _pools(now: AdminReading) -> tuple[PoolStanding, ...]:
    samples = now.samples
    up = samples.by("pool", "cuvee_backend_up")
    backends: dict[str, int] = {}
    for labels, _ in samples.of("cuvee_backend_up"):
        backends[labels.get("pool", "")] = backends.get(labels.get("pool", ""), 0) + 1
    desired = samples.by("pool", "cuvee_desired_backends")
    held = samples.by("pool", "cuvee_in_flight")
    load = samples.by("pool", "cuvee_load")
    return tuple(
        PoolStanding(
            name=name,
            up=round(up.get(name, 0.0)),
            backends=backends.get(name, 0),
            desired=round(desired[name]) if name in desired else None,
            in_flight=round(held.get(name, 0.0)),
            load=load[name] / backends[name] if name in load and backends.get(name) else None,
            pace=samples.value("cuvee_pool_pace", pool=name),
        )
        for name in dict.fromkeys([*now.value("/cuvee/plan").get("pools", ()), *backends])
    )


def _classes(now: AdminReading, before: AdminReading | None) -> tuple[ClassStanding, ...]:
    keys = dict.fromkeys(
        (own["model"], own["class"]) for own, _ in now.samples.of("cuvee_slo_total")
    )
    found = []
    for model, name in keys:
        kept, missed = _ended(now, model, name)
        old = (0, 0) if before is None else _ended(before, model, name)
        recent = (kept - old[0], missed - old[1])
        since = before is not None and min(recent) >= 0 and sum(recent) > 0
        share = recent[0] / sum(recent) if since else None
        found.append(ClassStanding(model, name, kept, missed, share))
    return tuple(found)


def _ended(read: AdminReading, model: str, name: str) -> tuple[int, int]:
    """Requests of a class that kept their promise, and that did not."""
    of = {"model": model, "class": name}
    kept = read.samples.total("cuvee_slo_total", met="yes", **of)
    return round(kept), round(read.samples.total("cuvee_slo_total", met="no", **of))


def _rate(now: AdminReading, before: AdminReading | None, name: str, **labels: str) -> float | None:
    """How fast a counter grew. `None` without an earlier reading, or across a restart."""
    if before is None or now.at_s <= before.at_s:
        return None
    grown = now.samples.total(name, **labels) - before.samples.total(name, **labels)
    return None if grown < 0 else grown / (now.at_s - before.at_s)


def _single(plan: dict[str, Any]) -> tuple[str, float] | None:
    """Of the GPU types that serve all, the cheapest."""
    types = plan.get("single_types") or {}
    usd = {gpu: one["usd_per_hour"] for gpu, one in types.items() if one.get("feasible")}
    return min(usd.items(), key=lambda one: one[1]) if usd else None
