"""What gateways of a cluster tell each other of backends that are drained."""

from gateway.cluster.codec import decode, encode
from gateway.cluster.drain_board import FRESH_S, DrainBoard, DrainNote
from gateway.cluster.messages import GatewayReport, Outbox

NOTE = DrainNote(pool="a", url="http://x", why="spot", since_s=1.0, ends_s=31.0)


def test_what_another_gateway_drains_counts_until_it_says_otherwise():
    """Each report says all that it drains; of a gateway that is not heard, it counts a while."""
    board = DrainBoard()
    board.hear("one", (NOTE,), 10.0)
    assert board.others(10.0) == {("a", "http://x"): ("one", NOTE)}
    assert board.others(10.0 + FRESH_S) == {}
    board.hear("one", (), 11.0)
    assert board.others(11.0) == {}


def test_a_report_carries_it():
    """From one process to another."""
    report = Outbox().take("one", "print", (), (NOTE,))

    assert decode(encode(report), GatewayReport).drained == (NOTE,)
