"""Receipts say what was decided, in headers whose names are users'."""

from gateway.proxy.receipt import KEPT, Receipts, unrouted
from gateway.routing.backend import Backend, Lease


def lease(name="a-0", plan_id="p", decision="spill"):
    backend = Backend(name=name, pool=name.partition("-")[0], url="http://a")
    return Lease(
        backend, own=0, slots=(0.1,), prefill_s=0.0, bucket=4, plan_id=plan_id, decision=decision
    )


def test_a_receipt_has_all_that_was_decided():
    """Id, bucket, pool, backend, plan and decision, a line each."""
    assert Receipts().lines(b"r1", 4, lease()) == (
        b"x-request-id: r1\r\nx-cuvee-bucket: 4\r\nx-cuvee-pool: a\r\nx-cuvee-backend: a-0\r\n"
        b"x-cuvee-plan: p\r\nx-cuvee-decision: spill\r\n"
    )


def test_a_request_that_was_not_routed_says_what_is_known():
    """Its id, and its bucket if it got that far."""
    assert Receipts().lines(b"r1", 4, None) == b"x-request-id: r1\r\nx-cuvee-bucket: 4\r\n"
    assert unrouted(b"r1") == b"x-request-id: r1\r\n"


def test_a_reduced_receipt_is_the_id():
    """Whatever was decided."""
    assert Receipts(full=False).lines(b"r1", 4, lease()) == b"x-request-id: r1\r\n"


def test_what_is_kept_is_never_another_requests():
    """Backend, plan and decision all count, however many there are."""
    receipts = Receipts()
    for n in range(2 * KEPT):
        held = lease(name=f"a-{n % 7}", plan_id=f"p{n}", decision="planned")
        assert b"x-cuvee-plan: p%d\r\n" % n in receipts.lines(b"r", 0, held)
        assert b"x-cuvee-backend: a-%d\r\n" % (n % 7) in receipts.lines(b"r", 0, held)
    assert len(receipts._kept) <= KEPT
