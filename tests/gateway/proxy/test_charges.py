"""What a request has used of the limits of its key."""

import pytest

from gateway.access.charge import Charge
from gateway.access.key import AccessKey
from gateway.proxy.charges import charge_use
from gateway.routing.observation import Outcome
from tests.gateway.proxy.test_active import active, routed

KEY = AccessKey(name="a", tokens_per_minute=1000)


@pytest.mark.parametrize(
    ("outcome", "came", "used"),
    [
        (Outcome.OK, (21, 7), 28.0),
        (Outcome.OK, (None, None), 25.0),  # as estimated
        (Outcome.ABANDONED, (None, 3), 23.0),  # the prompt, and what came of the answer
        (Outcome.FAILED, (21, 3), 0.0),
        (Outcome.FAILED, (None, 3), 0.0),
    ],
)
def test_tokens_are_what_the_engine_said_or_what_was_believed(outcome, came, used):
    """What a backend failed costs none, also of an answer that had begun."""
    request, charge = routed(), Charge(KEY, 0.0, 30.0, b"")
    request.input_tokens, request.output_tokens = came
    request.finish(outcome, 200)
    charge_use(charge, request)

    assert (charge.used, charge.served) == (used, True)


def test_what_no_backend_had_room_for_costs_nothing():
    """It was not served, so it is no request either."""
    request, charge = active(), Charge(KEY, 0.0, 30.0, b"")
    request.finish(Outcome.SHED, 429)
    charge_use(charge, request)

    assert (charge.used, charge.served) == (0.0, False)
