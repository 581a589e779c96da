"""Backends from DNS: one for each address of a name, or of each target of a service (RFC 2782)."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address

from dns.asyncresolver import Resolver
from dns.exception import DNSException
from dns.rdatatype import AAAA, SRV, A, RdataType
from dns.resolver import NXDOMAIN, LifetimeTimeout, NoNameservers

from gateway.config.discover_schema import DnsSection, nameserver
from gateway.discovery.source import Found
from planner.document import shown

log = logging.getLogger("cuvee.discovery")

LEAST_S = 1.0  # between two looks, however short the records may be kept
ANSWER_S = 4.0  # until a name server has answered: less than the start of a gateway waits
MOST_TARGETS = 4096  # of one service
AT_ONCE = 32  # questions under way


class NoAddresses(Exception):
    """There is nothing that could be a backend, and why."""


class DnsSource:
    """The `Source` of one name.

    An answer without addresses is a failure: a name server that has lost a zone says the same. Of
    what could not be asked while the rest could, the last addresses stay.
    """

    def __init__(self, section: DnsSection, pools: tuple[str, ...]) -> None:
        """pools: all that follow this name."""
        port = "" if section.port is None else f":{section.port}"
        self.name = f"dns {section.name}{port}"
        self.pools = pools
        self._section = section
        self._known: dict[tuple[str, RdataType], tuple[str, ...]] = {}
        self._kept_s = 0.0  # the shortest time that a record of this look may be kept
        self._faults: list[str] = []
        self._turns = asyncio.Semaphore(AT_ONCE)

    def __repr__(self) -> str:
        return f"<DnsSource {self._section.name} of {', '.join(self.pools)}>"

    async def run(self, found: Callable[[Found], None], failed: Callable[[str], None]) -> None:
        """Look when the records may be kept no longer, at least at the interval, for ever; see
        `Source`."""
        most_s = self._section.interval_s
        while True:
            try:
                told = await self.look()
            except NoAddresses as error:
                failed(str(error))
                await asyncio.sleep(most_s)
            except DNSException as error:
                failed(f"{self._section.name}: {_reason(error)}")
                await asyncio.sleep(most_s)
            except Exception as error:  # no answer may end the looks
                log.debug("%s", self.name, exc_info=True)
                failed(f"{type(error).__name__}: {shown(error)}")
                await asyncio.sleep(most_s)
            else:
                found(told)
                await asyncio.sleep(min(most_s, max(LEAST_S, self._kept_s)))

    async def look(self) -> Found:
        """Ask now. Raises NoAddresses, or DNSException where the servers do not answer."""
        self._kept_s, self._faults = self._section.interval_s, []
        resolver = self._resolver()
        if self._section.record == "srv":
            ends = await self._service(resolver)
        else:
            ends = await self._host(resolver)
        urls = tuple(_url(self._section.scheme, host, port) for host, port in _sorted(ends))
        if not urls:
            why = "; ".join(self._faults) or "the answer is empty"
            raise NoAddresses(f"{self._section.name} has no addresses: {why}")
        return Found(dict.fromkeys(self.pools, urls), tuple(self._faults))

    async def _host(self, resolver: Resolver | None) -> set[tuple[str, int]]:
        """The addresses of the name, each with the port of the section."""
        name, port = self._section.name, self._section.port or 0
        addresses = await self._addresses(resolver, name)
        if not addresses and self._section.server is None:
            addresses = await self._by_system(name)
        return {(one, port) for one in addresses}

    async def _service(self, resolver: Resolver | None) -> set[tuple[str, int]]:
        """The addresses of the targets of the service, each with its port: of those of the first
        priority that any have. Weights are the gateway's to choose: it knows the load."""
        if resolver is None:
            raise NoAddresses("this machine names no name server: set `server`")
        answer = await resolver.resolve(
            self._section.name, SRV, search=True, raise_on_no_answer=False
        )
        self._keep_for(answer.chaining_result.minimum_ttl)
        usable = [one for one in answer.rrset or () if one.port and one.target.to_text() != "."]
        first = min((one.priority for one in usable), default=0)
        ends = {
            (one.target.to_text(omit_final_dot=True), int(one.port))
            for one in usable
            if one.priority == first
        }
        if len(ends) > MOST_TARGETS:
            self._faults.append(f"{len(ends)} targets are too many: at most {MOST_TARGETS}")
            ends = set(sorted(ends)[:MOST_TARGETS])
        hosts = sorted({host for host, _ in ends})
        asked = await asyncio.gather(*(self._addresses(resolver, host) for host in hosts))
        by_host = dict(zip(hosts, asked, strict=True))
        self._known = {key: own for key, own in self._known.items() if key[0] in by_host}
        return {(one, port) for host, port in ends for one in by_host[host]}

    async def _addresses(self, resolver: Resolver | None, name: str) -> set[str]:
        """The addresses of both families; of one that could not be asked, the last ones."""
        if resolver is None:
            return set()
        both = await asyncio.gather(*(self._family(resolver, name, kind) for kind in (A, AAAA)))
        return {one for own in both for one in own}

    async def _family(self, resolver: Resolver, name: str, kind: RdataType) -> tuple[str, ...]:
        try:
            async with self._turns:
                answer = await resolver.resolve(name, kind, search=True, raise_on_no_answer=False)
        except NXDOMAIN as error:
            self._fault(f"{name}: {_reason(error)}")
            self._known.pop((name, kind), None)
            return ()
        except DNSException as error:
            self._fault(f"{name} {kind.name}: {_reason(error)}")
            return self._known.get((name, kind), ())
        if answer.rrset is None:  # the family is not there: nothing to wait for
            own: tuple[str, ...] = ()
        else:
            own = tuple(sorted(one.address for one in answer.rrset))
            self._keep_for(answer.chaining_result.minimum_ttl)
        self._known[name, kind] = own
        return own

    async def _by_system(self, name: str) -> set[str]:
        """The addresses by the system's own means: /etc/hosts has names that no server knows."""
        loop = asyncio.get_running_loop()
        try:
            ends = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError:
            return set()
        self._faults = []
        found = {str(end[4][0]) for end in ends}
        return {one for one in found if "%" not in one}  # of one link only: no URL has these

    def _resolver(self) -> Resolver | None:
        """What asks: the servers and search domains of resolv.conf as it is now, or the server of
        the section; `None` if there are none."""
        if self._section.server is not None:
            resolver = Resolver(configure=False)
            host, resolver.port = nameserver(self._section.server)
            resolver.nameservers = [host]
        else:
            try:
                resolver = Resolver()
            except DNSException as error:
                self._fault(_reason(error))
                return None
        resolver.lifetime = ANSWER_S
        return resolver

    def _keep_for(self, seconds: float) -> None:
        self._kept_s = min(self._kept_s, seconds)

    def _fault(self, text: str) -> None:
        if text not in self._faults:
            self._faults.append(text)


def _sorted(ends: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """In an order that does not change with that of the answer: servers rotate records."""

    def order(end: tuple[str, int]) -> tuple[int, int, int]:
        found = ip_address(end[0])
        return found.version, int(found), end[1]

    return sorted(ends, key=order)


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _reason(error: DNSException) -> str:
    """Why there is no answer, on one line that is the same each time."""
    if isinstance(error, NXDOMAIN):
        return "no such name (NXDOMAIN)"
    if isinstance(error, LifetimeTimeout):
        return "no name server answered in time"
    if isinstance(error, NoNameservers):
        codes = {shown(one[-2]) for one in error.kwargs.get("errors", ()) if len(one) > 2}
        return f"the name servers cannot answer ({', '.join(sorted(codes)) or 'all failed'})"
    return shown(error)
