"""What a request has used of the limits of its key."""

from typing import Final

from gateway.access.charge import Charge
from gateway.proxy.active import ActiveRequest
from gateway.routing.observation import Outcome

OK: Final = Outcome.OK
SHED: Final = Outcome.SHED
FAILED: Final = Outcome.FAILED
ABANDONED: Final = Outcome.ABANDONED


def charge_use(charge: Charge, active: ActiveRequest) -> None:
    """Count what a request, or a part of one, has used in the end.

    Where the engine did not report tokens they count as estimated, of a whole answer; of one that
    the client left only the prompt, and what came of the answer. What a backend failed costs no
    tokens; what none had room for costs nothing at all.
    """
    outcome = active.outcome
    if active.lease is None or outcome is SHED:
        return
    if outcome is FAILED:
        charge.add(0.0)
        return
    estimate, inputs, outputs = active.estimate, active.input_tokens, active.output_tokens
    if inputs is None and (outcome is OK or outcome is ABANDONED):
        inputs = estimate.input_tokens * estimate.prompts
    if outputs is None and outcome is OK and active.llm_request.endpoint.generates:
        outputs = estimate.output_tokens * estimate.width
    charge.add(float((inputs or 0) + (outputs or 0)))
