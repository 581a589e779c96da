"""What requests that ended teach about those to come. Knows no backend, no plan and no process."""

from typing import Final

from gateway.routing.lengths import OutputLengths
from gateway.routing.observation import Observation, Outcome
from gateway.routing.tokens import BytesPerToken

OK: Final = Outcome.OK
TAUGHT: Final = 100  # requests between two rests: at five rests a second all of 500/s


class Estimator:
    """Learned lengths of answers and bytes per token. Living state: outlives every table.

    It travels to workers. What is compiled has to say itself how it is pickled: `__reduce__`.
    """

    def __init__(self, lengths: OutputLengths, tokens: BytesPerToken) -> None:
        self.lengths = lengths
        self.tokens = tokens
        self._left = TAUGHT

    def __repr__(self) -> str:
        return f"<Estimator {self.lengths!r}, {self.tokens!r}>"

    def __reduce__(self) -> tuple[type["Estimator"], tuple[OutputLengths, BytesPerToken]]:
        return Estimator, (self.lengths, self.tokens)

    @classmethod
    def none(cls, bytes_per_token: dict[str, float]) -> "Estimator":
        """Nothing learned yet. bytes_per_token: where each model starts."""
        return cls(OutputLengths(), BytesPerToken(bytes_per_token))

    def sample(self, o: Observation) -> bool:
        """Learns from one of many, unless it was taught enough since its last rest; whether it did.

        Under a load at which CPU counts, a part of the requests says as much as all of them.
        """
        if self._left <= 0:
            return False
        self._left -= 1
        self.learn(o)
        return True

    def refill(self) -> None:
        """Called several times a second: ready to be taught again."""
        self._left = TAUGHT

    def learn(self, o: Observation) -> None:
        """Takes in a request that ended, whatever became of it."""
        model, route = o.model, o.route
        inputs, outputs = o.input_tokens, o.output_tokens
        if inputs is not None and not o.exact_input:
            self.tokens.learn(model, route, o.prompt_bytes, inputs)
        if outputs is not None and o.outcome is OK and route != "embeddings":
            self.lengths.learn(model, o.key, route, o.estimated_input, o.max_tokens, outputs)
