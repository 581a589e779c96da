"""What requests that ended teach about those to come. Knows no backend, no plan and no process."""

from gateway.config import Loaded
from gateway.routing.lengths import Lengths
from gateway.routing.observation import Observation, Outcome
from gateway.routing.tokens import Tokens


class Lessons:
    """Learned lengths of answers and bytes per token. Living state: outlives every table."""

    def __init__(self, lengths: Lengths, tokens: Tokens) -> None:
        self.lengths = lengths
        self.tokens = tokens

    def __repr__(self) -> str:
        return f"<Lessons {self.lengths!r}, {self.tokens!r}>"

    @classmethod
    def none(cls, loaded: Loaded) -> "Lessons":
        """Nothing learned yet: priors alone."""
        return cls(
            Lengths(), Tokens({n: m.bytes_per_token for n, m in loaded.config.models.items()})
        )

    def learn(self, o: Observation) -> None:
        """Takes in a request that ended, whatever became of it."""
        if o.input_tokens is not None and not o.exact_input:
            self.tokens.learn(o.model, o.route, o.prompt_bytes, o.input_tokens)
        if o.outcome is not Outcome.OK:
            return
        if o.output_tokens is not None and o.route != "embeddings":
            self.lengths.learn(
                o.model, o.key, o.route, o.estimated_input, o.max_tokens, o.output_tokens
            )
