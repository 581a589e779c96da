"""What is measured, as a profile states it; and the profile that points make of it. No I/O."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtest.measure.load import LoadPoint, Size
from planner.engine import catalogue, profiles
from planner.engine.fit import CURVED, shortage
from planner.engine.hardware import Gpu, Model
from planner.engine.profile_file import CONTEXT
from planner.engine.profiles import FORMAT, Profile, ProfileFile


class Subject(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The engine that is measured: fields of a profile file.

    served_as: the model's name in the API. max_model_len, kv_tokens, engine_version: as the backend
    states them; `None`: it does not.
    """

    gpu: str | Gpu
    model: str | Model
    engine: str
    dtype: str
    tensor_parallel_size: int
    served_as: str
    max_num_batched_tokens: int
    max_num_seqs: int | None = None
    max_model_len: int | None = None
    kv_tokens: int | None = None
    engine_version: str | None = None

    @property
    def longest(self) -> int:
        """The longest prompt and answer of one request, in tokens: as stated, or the default."""
        model = catalogue.find_model(self.model, Path())
        return self.max_model_len or min(CONTEXT, (model and model.context) or CONTEXT)

    def spec(self, measured: Sequence[LoadPoint], source: str | None = None) -> ProfileFile:
        """The profile file of what was measured."""
        fields = msgspec.structs.asdict(self)
        del fields["served_as"]
        seats = [one.seats for one in measured if one.seats is not None]
        if seats and self.max_num_seqs is None:
            fields["max_num_seqs"] = max(seats)
        points = tuple(one.point for one in measured)
        return ProfileFile(format=FORMAT, origin="measured", source=source, points=points, **fields)

    def lack(self, measured: Sequence[LoadPoint]) -> str | None:
        """What it takes besides for a profile, as words behind "it takes"; `None`: nothing."""
        if len(measured) < CURVED // 2:
            return f"at least {CURVED // 2} loads: there are {len(measured)}"
        return shortage([one.point for one in measured])

    def profile(self, measured: Sequence[LoadPoint]) -> Profile | None:
        """The profile fitted to what was measured; `None` while that lacks something.

        Raises InvalidValue and InvalidFile for a subject that no profile can have.
        """
        return profiles.build(self.spec(measured)) if self.lack(measured) is None else None


def errors(profile: Profile, measured: Sequence[LoadPoint]) -> dict[Size, float]:
    """The largest |fitted/measured − 1| of TPOT, by size."""
    worst: dict[Size, float] = {}
    for one in measured:
        fitted_s = profile.tpot_s(max(one.decoding, 1.0), one.input_tokens, one.output_tokens)
        off = abs(float(fitted_s) / one.tpot_s - 1)
        worst[one.load.size] = max(worst.get(one.load.size, 0.0), off)
    return worst
