"""The peers: found, configured to carry every stream, and started with their settings."""

import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from gateway.config.load import load
from loadtest.overhead import peers
from loadtest.overhead.peers import PEERS, Peer, ProxySettings
from planner.engine import profiles


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_peer_is_given_its_port_and_its_backend(peer: Peer, settings: ProxySettings):
    """By its arguments or by the configuration that they name."""
    argv = peer.argv("/bin/peer", settings)
    written = "".join(path.read_text() for path in settings.folder.iterdir())

    passed = " ".join(argv) + written
    assert argv[0] == "/bin/peer"
    assert "8080" in passed
    assert "127.0.0.2:9000" in passed


def test_every_peer_has_room_for_every_stream(settings: ProxySettings):
    """As many clients as there are files for, one on either side; no hidden cap of its own."""
    assert f"maxconn {settings.max_clients}" in peers.haproxy_config(settings)
    assert f"keepalive {settings.max_clients};" in peers.nginx_config(settings)
    assert 9900 <= settings.max_clients < 10_000


def test_the_gateways_configuration_is_one_that_it_reads(settings: ProxySettings):
    """YAML with a profile that can be read, and `workers` only where more than one is asked for."""
    _, _, path = peers.gateway_argv(settings)

    config = load(Path(path)).config
    assert config.gateway.port == 8080
    assert config.pools["bench"].backends == ("http://127.0.0.2:9000",)
    assert profiles.read_profile(Path(str(config.pools["bench"].profile))).gpu == "H100"
    two = msgspec.yaml.decode(peers.gateway_config(replace(settings, threads=2)))
    assert two["gateway"]["workers"] == 2


def test_a_given_path_wins_over_the_path_variable(tmp_path: Path):
    """A given path wins over the PATH, and some are found by a given path alone."""
    stack = next(peer for peer in PEERS if peer.name == "production-stack")

    assert peers.find_program(stack, {}) is None
    assert peers.find_program(stack, {stack.name: tmp_path}) == str(tmp_path)
    nowhere = Peer(name="x", program="no-such-program", argv=stack.argv, version=())
    assert peers.find_program(nowhere, {}) is None


def test_a_version_is_the_first_line_or_nothing():
    """Programs are asked, Python distributions looked up; no answer is no version."""
    python = Peer(name="x", program=None, argv=PEERS[0].argv, version=("-V",))
    library = Peer(name="y", program=None, argv=PEERS[0].argv, version="pytest")
    absent = Peer(name="z", program=None, argv=PEERS[0].argv, version="no-such-distribution")

    assert peers.program_version(python, sys.executable).startswith("Python 3")
    assert peers.program_version(library, sys.executable) == pytest.__version__
    assert peers.program_version(absent, sys.executable) == ""
    assert peers.program_version(python, "/no/such/program") == ""
