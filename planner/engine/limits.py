"""What a running engine says of its own limits. Knows no engine by name."""

from dataclasses import dataclass, replace

from planner.engine.profile import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """Each `None` where the engine does not say it.

    context: longest prompt and answer of one request, tokens. kv_tokens: tokens of KV that fit.
    sequences: most requests that it serves at one time.
    """

    context: int | None = None
    kv_tokens: int | None = None
    sequences: int | None = None

    def least(self, other: "EngineLimits") -> "EngineLimits":
        """What two engines of one pool can both do."""
        return EngineLimits(
            context=_least(self.context, other.context),
            kv_tokens=_least(self.kv_tokens, other.kv_tokens),
            sequences=_least(self.sequences, other.sequences),
        )

    def within(self, profile: Profile) -> Profile:
        """The profile of an engine with these limits where they are tighter than its own; what an
        engine could do beyond its profile, nobody has measured."""
        kv_tokens = _least(self.kv_tokens, profile.kv_capacity)
        if kv_tokens == profile.kv_capacity:
            kv_tokens = profile.kv_tokens
        return replace(
            profile,
            max_model_len=_least(self.context, profile.max_model_len) or profile.max_model_len,
            kv_tokens=kv_tokens,
            max_num_seqs=_least(self.sequences, profile.max_num_seqs) or profile.max_num_seqs,
        )


def _least(one: int | None, other: int | None) -> int | None:
    known = [value for value in (one, other) if value is not None]
    return min(known, default=None)
