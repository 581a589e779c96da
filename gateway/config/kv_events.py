"""Where engines publish KV events: addresses, and what is wrong with them. Connects to nothing."""

import re
from importlib.util import find_spec
from urllib.parse import urlsplit

from gateway.config.findings import Findings
from gateway.config.kv_events_schema import KvEventsSection
from gateway.config.schema import Config
from planner.document import shown, under

PACKAGE = "zmq"
MISSING = "needs the package pyzmq, which is not installed: pip install 'cuvee[kv-events]'"
LARGEST_PORT = 65535
PORTS = {"http": 80, "https": 443}
PATTERN = re.compile(r"tcp://(\{host\}|[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):(\d+|\{port(\+\d+)?\})")


def endpoint(pattern: str, url: str, rank: int) -> str:
    """The address of a rank's publisher, by the URL of its backend. Raises ValueError if there can
    be none."""
    found = PATTERN.fullmatch(pattern)
    if found is None:
        raise ValueError("must be tcp://HOST:PORT, with {host}, {port} or {port+N} in it")
    host, port, more = found.groups()
    parts = urlsplit(url)
    if host == "{host}":
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
    if port.isdigit():
        number = int(port)
    else:
        number = (parts.port or PORTS.get(parts.scheme, 0)) + int(more or 0)
    number += rank
    if not 0 < number <= LARGEST_PORT:
        raise ValueError(f"there is no port {number}")
    return f"tcp://{host}:{number}"


def check_kv_events(config: Config, findings: Findings) -> None:
    """Note what cannot be heard, or would be heard as another engine's."""
    seen: dict[str, str] = {}
    for name, pool in config.pools.items():
        section = pool.kv_events
        if section is None:
            continue
        where = f"{under('pools', name)}.kv_events"
        if find_spec(PACKAGE) is None:
            findings.problem(where, MISSING)
        if pool.affinity == "off":
            findings.warning(where, "affinity is off: what it tells is used for nothing")
        for url in pool.backends or ("http://host:8000",):
            if not _check(section, url, where, findings):
                break
            if pool.backends:
                _check_shared(section, url, where, seen, findings)


def _check(section: KvEventsSection, url: str, where: str, findings: Findings) -> bool:
    """Whether all addresses for a backend can be."""
    for key in ("endpoint", "replay_endpoint"):
        pattern = getattr(section, key)
        if pattern is None:
            continue
        try:
            endpoint(pattern, url, section.ranks - 1)
        except ValueError as error:
            findings.problem(f"{where}.{key}", f"{error}: {shown(pattern)}")
            return False
    return True


def _check_shared(
    section: KvEventsSection, url: str, where: str, seen: dict[str, str], findings: Findings
) -> None:
    for rank in range(section.ranks):
        address = endpoint(section.endpoint, url, rank)
        other = seen.setdefault(address, url)
        if other != url:
            text = f"{shown(address)} is that of {shown(other)} and of {shown(url)}: use {{port+N}}"
            findings.problem(f"{where}.endpoint", text)
            return
