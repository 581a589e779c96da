"""All checks of the doctor in their order: which can be made, and what each is given."""

import asyncio
import datetime
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway import runtime
from gateway.config.addresses import PORTS
from gateway.config.load import Loaded, load
from gateway.discovery.glance import glance
from gateway.discovery.sources import by_pool
from gateway.errors import ConfigError
from gateway.inspection import configuration, engines, machine, running, services
from gateway.inspection.admin_client import (
    AdminClient,
    AdminClosed,
    AdminFault,
    AdminReading,
    admin_url,
)
from gateway.inspection.examined import CheckGroup, Examined
from gateway.preflight.inquiry import expected, expected_in

LATE_TURNS = 3.0
GATEWAY = CheckGroup("running", "docs/operations.md")


class Examination(NamedTuple):
    """What is asked. path: of a configuration, `None`: none is looked at. url: of an admin port,
    `None`: that of the configuration, if a gateway answers there. key: for engines; token: for the
    admin port. timeout_s: for each answer."""

    path: Path | None
    url: str | None
    key: str | None
    token: str | None
    timeout_s: float


async def examine(question: Examination, here: machine.HostMachine) -> list[Examined]:
    """Every check that can be made. here: this machine."""
    loaded: Loaded | None = None
    found: list[Examined] = []
    if question.path is not None:
        try:
            loaded = load(question.path)
            found += configuration.of_configuration(loaded, datetime.date.today())
        except ConfigError as error:
            found += configuration.of_problems(error.problems)
    reading, fault = await _running(question, loaded)
    if loaded is not None:
        found += configuration.of_duplicates(await _addresses(loaded))
        found += machine.of_machine(here, loaded)
        serving = reading is not None or isinstance(fault, AdminClosed)
        found += machine.of_ports(loaded, serving=serving)
        found += machine.of_disk(loaded)
        found += await _around(loaded, question)
    if reading is not None:
        promises = {} if loaded is None else _promises(loaded)
        late_s = running.LATE_S if loaded is None else _late_s(loaded)
        found += running.of_running(reading, promises, runtime.build()["version"], late_s)
    elif fault is not None:
        found += _unread(fault, asked=question.url is not None)
    return found


def _unread(fault: AdminFault, *, asked: bool) -> Iterator[Examined]:
    """Why a gateway was not looked at. asked: whether it was named, and not only looked for."""
    told = GATEWAY.error if asked else GATEWAY.warning
    if not isinstance(fault, AdminClosed):
        if asked:
            hint = "start it, or correct --url; the admin port is gateway.admin_port, 8790"
            yield told("gateway", str(fault), hint)
    elif fault.token:
        hint = "--token or CUVEE_ADMIN_TOKEN, with a token of access.admin_read"
        yield told("gateway", f"a gateway answers, but asks for a token: {fault}", hint)
    else:
        hint = "--url with a name of its certificate; SSL_CERT_FILE names the authorities to trust"
        yield told("gateway", f"something answers, but TLS fails: {fault}", hint)


async def _running(
    question: Examination, loaded: Loaded | None
) -> tuple[AdminReading | None, AdminFault | None]:
    """What a running gateway says, or why nothing could be read."""
    url = question.url
    if url is None and loaded is not None and loaded.config.gateway.admin_port:
        url = admin_url(loaded.config.gateway)
    if url is None:
        return None, None
    client = AdminClient(url, token=question.token, timeout_s=question.timeout_s)
    try:
        return await client.read(time.time()), None
    except AdminFault as error:
        return None, error


async def _around(loaded: Loaded, question: Examination) -> list[Examined]:
    """Engines and services: all are asked at the same time."""
    (urls, failed, remarks), redis, rights = await asyncio.gather(
        glance(loaded, question.timeout_s), services.of_redis(loaded), services.of_rights(loaded)
    )
    pools, listed = expected_in(loaded), expected(loaded)
    known = {(one.pool, one.url.rstrip("/")) for one in listed}
    more = [
        pools[pool]._replace(url=url)
        for pool, own in urls.items()
        for url in own
        if (pool, url) not in known
    ]
    every = (*listed, *more)
    met, (now_s, dates) = await asyncio.gather(
        engines.meet(every, key=question.key, timeout_s=question.timeout_s),
        engines.dates(every, question.timeout_s),
    )
    names = list(dict.fromkeys(by_pool(loaded).values()))
    return [
        *machine.of_clock(now_s, dates),
        *redis,
        *services.of_sources(names, failed, remarks),
        *rights,
        *engines.of_engines(met, loaded),
    ]


async def _addresses(loaded: Loaded) -> dict[str, frozenset[str]]:
    """The addresses behind the URLs of the file, as far as their names can be resolved."""
    loop = asyncio.get_running_loop()
    found: dict[str, frozenset[str]] = {}
    for section in loaded.config.pools.values():
        for url in section.backends:
            parts = urlsplit(url)
            port = parts.port or PORTS[parts.scheme]
            try:
                told = await loop.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
            except OSError:
                continue  # whether it answers is another check
            path = parts.path.rstrip("/")
            found[url] = frozenset(f"{address[0]}:{port}{path}" for *_, address in told)
    return found


def _promises(loaded: Loaded) -> dict[tuple[str, str], float]:
    """The attainment that is promised, by model and class."""
    return {(one.model, one.name): one.slo.attainment for one in loaded.buckets.classes}


def _late_s(loaded: Loaded) -> float:
    """Since when a loop is late: after three turns of the one that is configured to be slowest."""
    config = loaded.config
    settings = config.gateway
    slowest_s = max(
        config.planner.interval_s,
        config.scaling.interval_s,
        settings.health_interval_s,
        settings.scrape_interval_s,
    )
    return max(running.LATE_S, LATE_TURNS * slowest_s)
