"""Names in DNS: each address is one backend, and a name server that fails takes none away."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest
from dns.exception import DNSException

from gateway.config.discover_schema import DnsSection
from gateway.discovery.dns_source import DnsSource, NoAddresses
from tests.gateway.discovery.nameserver import name_server


def source(server, *, name="e.test", pools=("a",), **section):
    port = None if section.get("record") == "srv" else 8000
    return DnsSource(DnsSection(name=name, port=port, server=server.at, **section), pools)


async def test_every_address_of_both_families_is_a_backend_in_one_order():
    """However the server turns its records; pools that share the name have the same."""
    async with name_server() as at:
        at.records = {("e.test", "A"): ["10.0.0.10", "10.0.0.9"], ("e.test", "AAAA"): ["fd00::1"]}

        found = await source(at, pools=("a", "b")).look()

        urls = ("http://10.0.0.9:8000", "http://10.0.0.10:8000", "http://[fd00::1]:8000")
        assert found.urls == {"a": urls, "b": urls}
        assert found.remarks == ()


async def test_a_service_has_the_addresses_of_its_targets_with_their_ports():
    """A target that is gone is told; one of two ports is two backends; a later priority is not
    used."""
    async with name_server() as at:
        at.records = {
            ("s.test", "SRV"): [
                "5 0 8001 one.test.", "5 1 8002 one.test.", "5 0 8003 two.test.",
                "5 0 8004 gone.test.", "9 0 8005 later.test.",
            ],
            ("one.test", "A"): ["10.0.0.1"],
            ("two.test", "AAAA"): ["fd00::2"],
        }  # fmt: skip

        found = await source(at, name="s.test", record="srv").look()

        assert found.urls["a"] == (
            "http://10.0.0.1:8001", "http://10.0.0.1:8002", "http://[fd00::2]:8003",
        )  # fmt: skip
        assert found.remarks == ("gone.test: no such name (NXDOMAIN)",)


@pytest.mark.parametrize(
    ("records", "failing", "why"),
    [
        ({}, set(), "e.test has no addresses: e.test: no such name (NXDOMAIN)"),
        ({("e.test", "TXT"): ["x"]}, set(), "e.test has no addresses: the answer is empty"),
        ({}, {"A", "AAAA"}, "e.test A: the name servers cannot answer (SERVFAIL)"),
    ],
)
async def test_no_address_is_a_failure_that_says_why(records, failing, why):
    """It cannot be told from a server that has lost its zone."""
    async with name_server() as at:
        at.records, at.failing = records, failing

        with pytest.raises(NoAddresses) as caught:
            await source(at).look()

        assert why in str(caught.value)


async def test_no_service_is_a_failure():
    """So is one that says that it is not offered."""
    async with name_server() as at:
        at.records = {("s.test", "SRV"): ["0 0 0 ."]}
        for name in ("s.test", "gone.test"):
            with pytest.raises((NoAddresses, DNSException)):
                await source(at, name=name, record="srv").look()


async def test_of_a_family_that_fails_the_last_addresses_stay():
    """The other one is followed, and the failure is told."""
    async with name_server() as at:
        at.records = {("e.test", "A"): ["10.0.0.1"], ("e.test", "AAAA"): ["fd00::1"]}
        one = source(at)
        await one.look()
        at.records["e.test", "A"], at.failing = ["10.0.0.2"], {"AAAA"}

        found = await one.look()

        assert found.urls["a"] == ("http://10.0.0.2:8000", "http://[fd00::1]:8000")
        assert found.remarks == ("e.test AAAA: the name servers cannot answer (SERVFAIL)",)


async def test_a_name_of_this_machine_needs_no_name_server():
    """`/etc/hosts` has it, whatever resolv.conf says."""
    found = await DnsSource(DnsSection(name="localhost", port=8000), ("a",)).look()

    assert "http://127.0.0.1:8000" in found.urls["a"]


@asynccontextmanager
async def told(one):
    heard: asyncio.Queue[Any] = asyncio.Queue()
    task = asyncio.create_task(one.run(heard.put_nowait, heard.put_nowait))
    try:
        yield heard
    finally:
        task.cancel()


async def test_a_name_is_asked_for_again_when_its_records_may_be_kept_no_longer():
    """After a TTL of one second, where the interval is an hour."""
    async with name_server() as at, told(source(at, interval_s=3600.0)) as heard:
        at.records = {("e.test", "A"): ["10.0.0.1"]}
        async with asyncio.timeout(20):
            assert (await heard.get()).urls == {"a": ("http://10.0.0.1:8000",)}
            at.records = {("e.test", "A"): ["10.0.0.2"]}
            assert (await heard.get()).urls == {"a": ("http://10.0.0.2:8000",)}


@pytest.mark.long
async def test_a_name_is_asked_for_again_after_the_interval_at_the_latest():
    """Where its records may be kept for an hour; also after failures."""
    async with name_server() as at, told(source(at, interval_s=1.0)) as heard:
        at.ttl, at.silent = 3600, True
        async with asyncio.timeout(30):
            assert "no name server answered in time" in await heard.get()
            at.records, at.silent = {("e.test", "A"): ["10.0.0.1"]}, False
            assert (await heard.get()).urls == {"a": ("http://10.0.0.1:8000",)}
            at.records = {}
            assert "NXDOMAIN" in await heard.get()
