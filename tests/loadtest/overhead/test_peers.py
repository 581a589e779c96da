import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from gateway.config.load import load
from loadtest.overhead import peers
from loadtest.overhead.peers import PEERS, Peer, Place
from planner.engine import profiles


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(
        port=8080,
        backend="127.0.0.2:9000",
        spare_port=8081,
        folder=tmp_path,
        files=20_000,
        threads=1,
    )


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_peer_is_told_where_to_listen_and_whom_to_ask(peer: Peer, place: Place):
    """By its arguments or by the configuration that they name."""
    argv = peer.argv("/bin/peer", place)
    written = "".join(path.read_text() for path in place.folder.iterdir())

    said = " ".join(argv) + written
    assert argv[0] == "/bin/peer"
    assert "8080" in said
    assert "127.0.0.2:9000" in said


def test_every_peer_has_room_for_every_stream(place: Place):
    """As many clients as there are files for, one on either side; no hidden cap of its own."""
    assert f"maxconn {place.clients}" in peers.haproxy_config(place)
    assert f"keepalive {place.clients};" in peers.nginx_config(place)
    assert 9900 <= place.clients < 10_000


def test_the_gateways_configuration_is_one_that_it_reads(place: Place):
    """YAML with a profile that can be read, and `workers` only where more than one is asked for."""
    _, _, path = peers.gateway_argv(place)

    config = load(Path(path)).config
    assert config.gateway.port == 8080
    assert config.pools["bench"].backends == ("http://127.0.0.2:9000",)
    assert profiles.read_profile(Path(str(config.pools["bench"].profile))).gpu == "H100"
    two = msgspec.yaml.decode(peers.gateway_config(replace(place, threads=2)))
    assert two["gateway"]["workers"] == 2


def test_a_peer_is_where_it_is_said_to_be(tmp_path: Path):
    """A given path wins over the PATH, and some are found by a given path alone."""
    stack = next(peer for peer in PEERS if peer.name == "production-stack")

    assert peers.find(stack, {}) is None
    assert peers.find(stack, {stack.name: tmp_path}) == str(tmp_path)
    nowhere = Peer(name="x", program="no-such-program", argv=stack.argv, version=())
    assert peers.find(nowhere, {}) is None


def test_a_version_is_the_first_line_or_nothing():
    """Programs are asked, Python distributions looked up; who says nothing has no version."""
    python = Peer(name="x", program=None, argv=PEERS[0].argv, version=("-V",))
    library = Peer(name="y", program=None, argv=PEERS[0].argv, version="pytest")
    absent = Peer(name="z", program=None, argv=PEERS[0].argv, version="no-such-distribution")

    assert peers.version(python, sys.executable).startswith("Python 3")
    assert peers.version(library, sys.executable) == pytest.__version__
    assert peers.version(absent, sys.executable) == ""
    assert peers.version(python, "/no/such/program") == ""
