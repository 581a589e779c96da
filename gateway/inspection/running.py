"""What is wrong with a gateway that runs, by what its admin port says. Pure."""

import errno
import os
from collections.abc import Iterator, Mapping

from gateway.inspection.admin_client import AdminReading
from gateway.inspection.examined import CheckGroup, Examined
from gateway.inspection.traffic import of_traffic, requests

GROUP = CheckGroup("running", "docs/operations.md")
LATE_S = 60.0  # of a loop that has an interval
RARE_LOOPS = ("discovery", "kv_events", "weights ")  # those that work when something changes
OLD_PLAN_S = 3600.0
SLOW, FAST = 1.15, 0.87  # pace of a pool; `docs/operations.md` has the same
SLOW_BACKEND = 1.25  # times the pace of its pool
FULL_KV = 0.95
OLD_SCRAPE_S = 10.0
LAG_S = 0.05


def of_running(
    read: AdminReading,
    promises: Mapping[tuple[str, str], float],
    version: str,
    late_s: float = LATE_S,
) -> Iterator[Examined]:
    """All that can be told. promises: attainment by model and class, where the configuration is
    known. version: of this program. late_s: since when a loop has not done its work, if it is to be
    told."""
    yield from _build(read, version)
    yield from _ready(read)
    yield from _backends(read)
    yield from _loops(read, late_s)
    yield from _configuration(read)
    yield from _sources(read)
    yield from _cluster(read)
    yield from _plan(read)
    yield from of_traffic(read, promises)
    yield from _speed(read)
    yield from _engines(read)
    yield from _hits(read)
    yield from _process(read)


def _build(read: AdminReading, version: str) -> Iterator[Examined]:
    labels = next(iter(read.samples.of("cuvee_build_info")), ({}, 0.0))[0]
    text = f"{read.url}: Cuvée {labels.get('version')}, Python {labels.get('python')}"
    if labels.get("data_path") != "compiled":
        hint = "`make compiled`, or an installation with a C compiler; then `cuvee serve --replace`"
        yield GROUP.warning("gateway", f"{text}, interpreted", hint, "docs/performance.md")
    elif labels.get("version") != version:
        hint = "the same version for both: what is told here may have other names there"
        yield GROUP.warning("gateway", f"{text}; this command is of {version}", hint)
    else:
        yield GROUP.fine("gateway", f"{text}, compiled")


def _ready(read: AdminReading) -> Iterator[Examined]:
    ready = read.value("/readyz")
    status, unserved = ready.get("status"), ready.get("unserved") or []
    anchor = "docs/runbooks.md#cuveebackenddown"
    if status != "ready":
        yield GROUP.error("ready", f"/readyz says `{status}`", "its backends, below", anchor)
    elif unserved:
        text = f"nobody serves {', '.join(unserved)}"
        yield GROUP.error("ready", text, "backends of its pools, below", anchor)
    else:
        yield GROUP.fine("ready", "every model has a live backend")


def _backends(read: AdminReading) -> Iterator[Examined]:
    samples = read.samples
    every = list(samples.of("cuvee_backend_up"))
    down = [_name(labels) for labels, up in every if not up]
    resting = [_name(labels) for labels, count in samples.of("cuvee_backend_resting") if count]
    asleep = [_name(labels) for labels, count in samples.of("cuvee_engine_sleeping") if count]
    if down:
        text = f"{len(down)} of {len(every)} are down: {_some(down)}"
        outcome = GROUP.error if len(down) == len(every) else GROUP.warning
        hint = "the log says why; `cuvee check --connect` asks them again"
        yield outcome("backends", text, hint, "docs/runbooks.md#cuveebackenddown")
    if resting:
        hint = "requests fail there though probes are good: cuvee_backend_failures_total says how"
        anchor = "docs/reliability.md#backends-that-fail"
        yield GROUP.warning("backends", f"no requests for {_some(resting)}", hint, anchor)
    if asleep:
        hint = "wake them, or have `scale` do it"
        yield GROUP.note(
            "backends", f"{_some(asleep)} sleep", hint, "#other-clients-of-the-engines"
        )
    if not down and not resting:
        yield GROUP.fine("backends", f"{len(every)} of {len(every)} are up")


def _loops(read: AdminReading, late_s: float) -> Iterator[Examined]:
    loops = read.value("/cuvee/loops").get("loops") or {}
    fine = True
    for name, loop in loops.items():
        good_s = loop.get("good_at_s")
        age_s = None if good_s is None else read.at_s - good_s
        if loop.get("error"):
            fine = False
            yield GROUP.error("loops", f"{name}: {loop['error']}", _hint(loop), "#the-loops")
        elif age_s is not None and age_s > late_s and not name.startswith(RARE_LOOPS):
            fine = False
            text = f"{name}: last did its work {age_s:.0f} s ago"
            yield GROUP.warning("loops", text, "the log; is the machine overloaded?", "#the-loops")
    if fine:
        yield GROUP.fine("loops", f"{', '.join(loops) or 'none'}: each does its work")


def _hint(loop: Mapping[str, object]) -> str:
    """What to do about a loop that fails."""
    if os.strerror(errno.ENOSPC) in str(loop.get("error")):
        return "room on the disk"
    return "the table of loops says what goes on meanwhile"


def _configuration(read: AdminReading) -> Iterator[Examined]:
    good = read.samples.value("cuvee_config_last_reload_successful")
    problems = read.value("/readyz").get("config_problems") or read.value("/readyz").get("problems")
    if good == 0:
        text = "the file was changed and cannot be used" + (f": {problems[0]}" if problems else "")
        hint = "`cuvee check`; the last good one stays in force"
        anchor = "docs/configuration.md#a-running-gateway-follows-its-file"
        yield GROUP.error("reload", text, hint, anchor)
    elif good is not None:
        yield GROUP.fine("reload", "the file is in force as it is")


def _sources(read: AdminReading) -> Iterator[Examined]:
    ages = read.samples.by("source", "cuvee_discovery_age_seconds")
    old = {
        name: age_s for name, age_s in ages.items() if age_s > LATE_S and "kubernetes" not in name
    }
    for name, age_s in old.items():
        text = f"{name}: no good look for {age_s:.0f} s"
        hint = "the backends that it told last stay"
        yield GROUP.warning("sources", text, hint, "docs/runbooks.md#cuveeloopfailing")
    if ages and not old:
        yield GROUP.fine("sources", f"{', '.join(ages)} answer")


def _cluster(read: AdminReading) -> Iterator[Examined]:
    samples, anchor = read.samples, "docs/cluster.md#when-something-fails"
    up = samples.value("cuvee_cluster_up")
    if up is None:
        return
    if not up:
        hint = "Redis; until then this gateway serves by what it knows"
        yield GROUP.error("cluster", "Redis does not answer", hint, anchor)
    elif samples.value("cuvee_cluster_follows") == 0:
        hint = "the same configuration and version on all gateways"
        text = "the plan of the gateway that plans is of no use here"
        yield GROUP.error("cluster", text, hint, anchor)
    else:
        yield GROUP.fine("cluster", f"{samples.total('cuvee_cluster_gateways'):.0f} gateways")


def _plan(read: AdminReading) -> Iterator[Examined]:
    plan, samples = read.value("/cuvee/plan"), read.samples
    named, anchor = plan.get("plan_id"), "docs/planning.md#what-is-certified"
    looked_s = samples.value("cuvee_last_solve_timestamp_seconds")
    failed = samples.total("cuvee_plan_looks_total", result="failed")
    if failed and samples.value("cuvee_loop_failing", loop="planning"):
        hint = "planner.solve_limit_s, or fewer buckets; the last good plan stays"
        text = f"the last look at the demand failed ({failed:.0f} in all)"
        yield GROUP.error("plan", text, hint, "docs/runbooks.md#cuveeloopfailing")
    elif looked_s and read.at_s - looked_s > OLD_PLAN_S and requests(read):
        text = f"{named}: the solver last answered {(read.at_s - looked_s) / 60:.0f} minutes ago"
        hint = "with traffic it looks each planner.interval_s"
        yield GROUP.warning("plan", text, hint, "docs/runbooks.md#cuveeloopfailing")
    else:
        usd = plan.get("usd_per_hour") or 0.0
        yield GROUP.fine("plan", f"{named}, ${usd:.2f}/h: {plan.get('reason')}")
    for one in (plan.get("unserved") or [])[:1]:
        hint = "the cheapest relaxation is in `cuvee plan`"
        text = f"it leaves out {one['what']}: {one['why']}"
        yield GROUP.warning("plan", text, hint, "docs/planning.md#what-is-cheapest")
    certificate = plan.get("certificate")
    if certificate is None:
        if plan.get("objective") == "provision":
            hint = "it comes within planner.certify_cpu_s, if that is not 0"
            yield GROUP.note("certificate", f"{named} has none yet", hint, anchor)
    elif not certificate.get("holds"):
        kept = certificate.get("attainment", 0.0)
        text = f"{named} keeps its promise for {kept:.2%} only when it is rehearsed"
        yield GROUP.warning("certificate", text, "more backends, or a longer promise", anchor)
    else:
        kept = certificate.get("attainment", 0.0)
        yield GROUP.fine("certificate", f"{kept:.2%} keep the promise when it is rehearsed")


def _speed(read: AdminReading) -> Iterator[Examined]:
    paces = read.samples.by("pool", "cuvee_pool_pace")
    anchor = "docs/runbooks.md#cuveeslow"
    odd = {pool: pace for pool, pace in paces.items() if not FAST < pace < SLOW}
    for pool, pace in odd.items():
        text = f"{pool}: requests take {pace:.2f} times as long as its profile says"
        hint = "plans count with it; measure the profile anew"
        yield GROUP.warning("speed", text, hint, anchor)
    for labels, pace in read.samples.of("cuvee_backend_pace"):
        if pace > SLOW_BACKEND * paces.get(labels.get("pool", ""), pace):
            text = f"{_name(labels)} takes {pace:.2f} times as long as it should, its pool does not"
            hint = "its temperature, its neighbours, its settings"
            yield GROUP.warning("speed", text, hint, "docs/runbooks.md#cuveeslow")
    if paces and not odd:
        each = ", ".join(f"{pool} {pace:.2f}" for pool, pace in paces.items())
        yield GROUP.fine("speed", f"pace by pool: {each}")


def _engines(read: AdminReading) -> Iterator[Examined]:
    samples, anchor = read.samples, "#other-clients-of-the-engines"
    full = [_name(own) for own, used in samples.of("cuvee_engine_kv_used") if used > FULL_KV]
    if full:
        hint = "long prompts, or other clients; engines preempt"
        yield GROUP.warning("KV memory", f"it is full in {_some(full)}", hint, anchor)
    others = [_name(own) for own, count in samples.of("cuvee_engine_foreign") if count]
    if others:
        hint = "the router fills around it, the plan does not know of it"
        yield GROUP.note("other clients", f"{_some(others)} serve others too", hint, anchor)
    silent = [
        _name(own) for own, age_s in samples.of("cuvee_scrape_age_seconds") if age_s > OLD_SCRAPE_S
    ]
    if silent:
        text = f"{_some(silent)} did not show them for {OLD_SCRAPE_S:g} s"
        yield GROUP.warning("engine metrics", text, "the log says why", anchor)


def _hits(read: AdminReading) -> Iterator[Examined]:
    samples = read.samples
    prompt = samples.total("cuvee_tokens_total", direction="input")
    cached = samples.total("cuvee_cached_tokens_total")
    if prompt:
        text = f"{cached / prompt:.1%} of the prompt tokens were in the engines already"
        yield GROUP.fine("prefix hits", text)


def _process(read: AdminReading) -> Iterator[Examined]:
    samples = read.samples
    if replaced := samples.total("cuvee_workers_replaced_total"):
        hint = "the log says which signal ended them; memory?"
        text = f"{replaced:.0f} died and were replaced since the start"
        yield GROUP.warning("workers", text, hint, "docs/runbooks.md#cuveegatewayunwell")
    if dropped := samples.total("cuvee_log_lines_dropped_total"):
        text = f"{dropped:,.0f} lines were dropped: nobody took them in time"
        yield GROUP.warning("log", text, "what reads standard error", "#the-log")
    lost = samples.total("cuvee_trace_requests_total", result="lost")
    if lost:
        hint = "room and speed of the disk"
        yield GROUP.warning("trace", f"{lost:,.0f} requests are not in it", hint, "#the-log")
    lag_s = samples.quantile(0.99, "cuvee_loop_lag_seconds")
    if lag_s is not None and lag_s > LAG_S:
        hint = "more gateway.workers, or fewer neighbours on the machine"
        text = f"timers of workers are {lag_s * 1e3:.0f} ms late at p99"
        yield GROUP.warning("event loop", text, hint, "docs/runbooks.md#cuveegatewayunwell")
    elif lag_s is not None:
        yield GROUP.fine("event loop", f"timers are at most {lag_s * 1e3:g} ms late at p99")


def _name(labels: Mapping[str, str]) -> str:
    return labels.get("backend", "?")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
