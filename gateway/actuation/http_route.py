"""Which weights of an HTTPRoute have to change, so that pools get their shares. Pure.

https://gateway-api.sigs.k8s.io/reference/spec/#httproutespec: the weight of an entry, over the sum
of all in its rule, is its part of the requests; a rule whose weights are all 0 answers 500.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.discovery.kubernetes.objects import KubeStruct, ObjectMeta


class RouteFault(Exception):
    """A route that cannot have these weights: one line."""


class BackendRef(KubeStruct, frozen=True):
    """Where a rule sends requests to. No weight means 1."""

    name: str
    weight: int = 1


class RouteRule(KubeStruct, frozen=True):
    """One rule; other fields are not read, and stay."""

    backend_refs: tuple[BackendRef, ...] = ()


class RouteSpec(KubeStruct, frozen=True):
    """The rules of a route."""

    rules: tuple[RouteRule, ...] = ()


class HttpRouteObject(KubeStruct, frozen=True):
    """An HTTPRoute (gateway.networking.k8s.io/v1)."""

    metadata: ObjectMeta
    spec: RouteSpec = RouteSpec()


def weight_changes(
    route: HttpRouteObject, shares: Mapping[str, float], total: int
) -> list[dict[str, Any]]:
    """Steps of a JSON patch, none if all is as it should be. Each weight that is written is
    guarded by the name of its entry, and all by the version of the route.

    shares: by names of entries, not negative; those of the entries that a rule has are written as
    whole numbers that sum to `total`. Raises RouteFault where an entry that has a share is in no
    rule, or twice in one.
    """
    found = {ref.name for rule in route.spec.rules for ref in rule.backend_refs}
    for name, share in shares.items():
        if share > 0 and name not in found:
            raise RouteFault(f"no rule has the backendRef {name}, which has {share:.0%}")
    steps: list[dict[str, Any]] = []
    for number, rule in enumerate(route.spec.rules):
        wanted = _weights(rule, shares, total)
        for index, ref in enumerate(rule.backend_refs):
            if (weight := wanted.get(ref.name, ref.weight)) != ref.weight:
                path = f"/spec/rules/{number}/backendRefs/{index}"
                steps += [
                    {"op": "test", "path": f"{path}/name", "value": ref.name},
                    {"op": "add", "path": f"{path}/weight", "value": weight},
                ]
    if not steps:
        return []
    version = {"op": "replace", "path": "/metadata/resourceVersion"}
    return [version | {"value": route.metadata.resource_version}, *steps]


def strangers(route: HttpRouteObject, names: Sequence[str]) -> dict[str, int]:
    """Weights of other entries, in rules that have one of these: they keep their part."""
    return {
        ref.name: ref.weight
        for rule in route.spec.rules
        if any(ref.name in names for ref in rule.backend_refs)
        for ref in rule.backend_refs
        if ref.name not in names and ref.weight > 0
    }


def whole(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Shares as whole numbers that sum to `total`, by the largest remainders; none if all are 0."""
    whole_sum = sum(shares.values())
    if not whole_sum > 0:
        return {}
    exact = {name: share / whole_sum * total for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    rest = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in rest[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _weights(rule: RouteRule, shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Of the entries of a rule that have a share. A rule of which no entry has any stays as it is:
    it would answer nothing but errors."""
    names = [ref.name for ref in rule.backend_refs if ref.name in shares]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RouteFault(f"one rule has the backendRef {twice} twice: its weight is not one number")
    return whole({name: shares[name] for name in names}, total)
