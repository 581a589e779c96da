"""What the router believes of each request of a rehearsal, at its arrival.

Owns the two ways to know it: given beforehand, or learned from the requests that have ended. Knows
no NumPy: mypyc compiles it.
"""

from gateway.routing.estimate import Estimate
from gateway.routing.estimator import Estimator


class Estimates:
    """The estimates of N requests by number. caller, models, classes: (N,) ids of the callers,
    names of the models and of the SLO classes."""

    def __init__(self, caller: list[str], models: list[str], classes: list[str]) -> None:
        self.caller = caller
        self.models = models
        self.classes = classes

    def estimate(self, request: int) -> Estimate:
        """The estimate of a request that arrives now."""
        raise NotImplementedError

    def learn(self, request: int, now_s: float) -> None:
        """Called when a request has ended."""


class GivenEstimates(Estimates):
    """Estimates that are known beforehand, and learn nothing."""

    def __init__(
        self, caller: list[str], models: list[str], classes: list[str], rows: list[list[int]]
    ) -> None:
        """rows: (N, 2) estimated input and output tokens, or (N, 3) with the output's P90."""
        super().__init__(caller, models, classes)
        self._rows = rows

    def estimate(self, request: int) -> Estimate:
        row = self._rows[request]
        return Estimate(
            model=self.models[request],
            input_tokens=row[0],
            output_tokens=row[1],
            output_p90=row[-1],
            slo_class=self.classes[request],
        )


class LearnedEstimates(Estimates):
    """Estimates that learn: each request is predicted from those that ended before it arrived."""

    def __init__(
        self,
        caller: list[str],
        models: list[str],
        classes: list[str],
        sizes: tuple[list[int], list[int]],
        estimator: Estimator,
    ) -> None:
        """sizes: (N,) input tokens, which are known at the arrival, and output tokens."""
        super().__init__(caller, models, classes)
        self._inputs, self._outputs = sizes
        self._estimator = estimator

    def estimate(self, request: int) -> Estimate:
        return self._estimator.estimate_size(
            self._inputs[request],
            model=self.models[request],
            caller=self.caller[request],
            slo_class=self.classes[request],
        )

    def learn(self, request: int, now_s: float) -> None:
        self._estimator.learn_size(
            self._inputs[request],
            self._outputs[request],
            model=self.models[request],
            caller=self.caller[request],
        )
