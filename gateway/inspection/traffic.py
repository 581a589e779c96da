"""What became of the requests of a gateway that runs: promises, refusals, errors, spills. Pure."""

from collections.abc import Iterator, Mapping

from gateway.inspection.admin_client import AdminReading
from gateway.inspection.examined import CheckGroup, Examined

GROUP = CheckGroup("running", "docs/operations.md")
PROMISED = "the promise"
ATTAINED = 0.99  # where the promise of a class is not known
REFUSED, FAILED, SPILLED = 0.01, 0.01, 0.2  # shares from which on it is worth a line
FEW = 50  # requests, below which shares say nothing


def of_traffic(read: AdminReading, promises: Mapping[tuple[str, str], float]) -> Iterator[Examined]:
    """All that can be told. promises: attainment by model and class, where it is known."""
    yield from _promises(read, promises)
    yield from _refusals(read)
    yield from _errors(read)
    yield from _queue(read)
    yield from _spills(read)


def requests(read: AdminReading) -> float:
    """Requests since the start."""
    return read.samples.total("cuvee_requests_total")


def _promises(read: AdminReading, promises: Mapping[tuple[str, str], float]) -> Iterator[Examined]:
    samples = read.samples
    classes = dict.fromkeys(
        (own["model"], own["class"]) for own, _ in samples.of("cuvee_slo_total")
    )
    for model, name in classes:
        kept = samples.total("cuvee_slo_total", model=model, **{"class": name}, met="yes")
        missed = samples.total("cuvee_slo_total", model=model, **{"class": name}, met="no")
        if kept + missed < FEW:
            continue
        share, wanted = kept / (kept + missed), promises.get((model, name), ATTAINED)
        text = f"{model} {name}: kept for {share:.2%} of {kept + missed:,.0f} since the start"
        if share < wanted:
            hint = f"it is promised for {wanted:.0%}: is the fleet that of the plan, and as fast?"
            anchor = "docs/runbooks.md#cuveepromisebroken"
            yield GROUP.error(PROMISED, text, hint, anchor)
        else:
            yield GROUP.fine(PROMISED, text)


def _refusals(read: AdminReading) -> Iterator[Examined]:
    samples, every = read.samples, requests(read)
    refused = samples.total("cuvee_shed_total")
    if every < FEW:
        return
    reasons = samples.by("reason", "cuvee_shed_total")
    why = ", ".join(f"{count:,.0f} {reason}" for reason, count in reasons.items() if count)
    text = f"{refused:,.0f} of {every:,.0f} since the start" + (f": {why}" if why else "")
    if refused > REFUSED * every:
        anchor = "docs/runbooks.md#cuveerequestsrefused"
        yield GROUP.warning("refusals", text, "more backends, or `scale`", anchor)
    else:
        yield GROUP.fine("refusals", text)


def _errors(read: AdminReading) -> Iterator[Examined]:
    codes = read.samples.by("code", "cuvee_responses_total")
    every, failed = sum(codes.values()), sum(n for code, n in codes.items() if code[:1] == "5")
    if every < FEW:
        return
    text = f"{failed:,.0f} of {every:,.0f} answers since the start are 5xx"
    if failed > FAILED * every:
        kinds = read.samples.by("kind", "cuvee_backend_failures_total")
        how = ", ".join(f"{count:,.0f} {kind}" for kind, count in kinds.items() if count)
        hint = f"failures of backends: {how}" if how else "the log"
        yield GROUP.error("errors", text, hint, "docs/runbooks.md#cuveeerrors")
    else:
        yield GROUP.fine("errors", text)


def _queue(read: AdminReading) -> Iterator[Examined]:
    waiting = read.samples.total("cuvee_queued_requests")
    if waiting:
        hint = "the fleet is full now: they are served in turn, or refused in time"
        anchor = "docs/reliability.md#more-work-than-capacity"
        yield GROUP.warning("queue", f"{waiting:.0f} requests wait for a backend", hint, anchor)
    else:
        yield GROUP.fine("queue", "nobody waits")


def _spills(read: AdminReading) -> Iterator[Examined]:
    decisions = read.samples.by("decision", "cuvee_decisions_total")
    every, spilled = sum(decisions.values()), decisions.get("spill", 0.0)
    if every < FEW:
        return
    text = f"{spilled / every:.1%} of the requests went to another pool than planned"
    if spilled > SPILLED * every:
        hint = "pools are fuller than planned: the demand has changed, or engines are slower"
        yield GROUP.warning("spills", text, hint, "docs/dispatch.md")
    else:
        yield GROUP.fine("spills", text)
