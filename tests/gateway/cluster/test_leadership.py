"""One gateway plans, and stops before another may begin."""

from gateway.cluster.leadership import Leadership


def test_a_lease_ends_for_its_holder_before_it_ends_in_the_store():
    """The store counts from when the question came there, which is no earlier than when it was
    asked."""
    leadership = Leadership(3.0)
    leadership.granted(7, asked_s=100.0)

    assert leadership.leads(102.3)
    assert not leadership.leads(102.5)
    assert leadership.left_s(102.0) < 0.5
    assert leadership.token == 7


def test_a_renewal_counts_from_its_question_and_a_loss_at_once():
    """Two renewals may fail before the lease is over."""
    leadership = Leadership(3.0)
    leadership.granted(7, asked_s=100.0)
    leadership.granted(7, asked_s=100.0 + leadership.renewal_s)
    assert leadership.leads(103.3)
    leadership.lost()

    assert not leadership.leads(101.5)
    assert leadership.left_s(101.5) == 0.0
