"""A whole measurement, of simulated engines in virtual time."""

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec
import numpy as np
import pytest

from loadtest.measure import journal
from loadtest.measure.choice import Bounds
from loadtest.measure.load import Load, LoadPoint, Size, Unmeasurable
from loadtest.measure.run import MeasureResult, Step, measure
from loadtest.measure.subject import Subject
from loadtest.measure.virtual import VirtualBackend, played_n_star
from planner.engine.profiles import FORMAT, Profile, ProfileFile, build
from planner.slo import Slo

# Sizes between those that are measured.
SIZES: tuple[Size, ...] = ((300, 300), (1000, 200), (150, 400), (600, 250), (1500, 100))


def subject_of(**fields: object) -> Subject:
    """What is known of an engine that is measured; the rest is the profile format's default."""
    stated = {
        "gpu": "H100", "model": "Llama-3-8B", "engine": "vllm-v1", "dtype": "fp16",
        "tensor_parallel_size": 1, "max_num_batched_tokens": 2048, "served_as": "llama",
    }  # fmt: skip
    return msgspec.convert(stated | fields, Subject)


def engine_of(subject: Subject) -> Profile:
    """The analytic engine of a subject."""
    fields = msgspec.structs.asdict(subject)
    del fields["served_as"]
    return build(ProfileFile(format=FORMAT, origin="analytic", **fields))


def bounds_of(engine: Profile, tpot_s: float) -> Bounds:
    return Bounds(
        slo=Slo(ttft_s=5.0, tpot_s=tpot_s),
        longest=engine.max_model_len,
        seats=engine.max_num_seqs,
        kv_tokens=engine.kv_capacity,
    )


def measured(
    engine: Profile, subject: Subject, tpot_s: float, *, budget_s: float = 1e6, **options: object
) -> tuple[MeasureResult, list[Step]]:
    steps: list[Step] = []
    path = options.get("path")
    result = asyncio.run(
        measure(
            options.get("backend") or VirtualBackend(engine),  # type: ignore[arg-type]
            subject,
            bounds_of(engine, tpot_s),
            path=path,  # type: ignore[arg-type]
            budget_s=budget_s,
            on_step=steps.append,
        )
    )
    return result, steps


V1, TRT = "vllm-v1", "tensorrt-llm"
LONG = partial(pytest.param, marks=pytest.mark.long)


@pytest.mark.long
@pytest.mark.parametrize(
    ("tpot_s", "fields", "believed"),
    [
        # Prompts of up to four budgets: cut into chunks.
        (0.06, {"gpu": "A10G", "max_num_batched_tokens": 512}, {}),
        LONG(0.04, {"engine": "vllm-v0"}, {}),
        # An iteration with prompts takes half as long again as the target at least.
        LONG(0.03, {"engine": TRT}, {}),
        (0.02, {"model": "Qwen3-30B-A3B", "max_num_batched_tokens": 8192}, {}),
        # The rows that the user states are those of another engine, or none at all.
        LONG(0.04, {"engine": "sglang", "max_num_seqs": 256}, {"engine": V1}),
        LONG(0.04, {"max_num_seqs": 256}, {"gpu": "X1", "model": "Own"}),
    ],
    ids=["A10G", "V0", "TensorRT-LLM", "mixture", "another engine", "no rows"],
)
def test_n_star_and_rate_of_an_engine_are_recovered(
    tpot_s: float, fields: dict[str, object], believed: dict[str, object]
):
    """At sizes that were not measured: within 5 %, or half a request where few are in flight."""
    engine = engine_of(subject_of(**fields))
    subject = subject_of(**(fields | {"kv_tokens": engine.kv_capacity} | believed))

    result, _ = measured(engine, subject, tpot_s)

    assert result.settled
    profile = subject.profile(result.measured)
    assert profile is not None
    judged = 0
    for size in SIZES:
        truth = played_n_star(engine, size, tpot_s)
        if truth is None:  # memory or seats bound it
            continue
        inputs, outputs = np.array([size], dtype=float).T
        found = profile.capacity(inputs, outputs, Slo(ttft_s=5.0, tpot_s=tpot_s))
        assert found.n_star[0] == pytest.approx(truth[0], rel=0.05, abs=0.5)
        assert found.rate[0] == pytest.approx(truth[1], rel=0.05)
        judged += 1
    assert judged >= 2
    assert len(result.measured) <= 80


@pytest.mark.long
def test_a_broken_measurement_ends_as_a_whole_one(tmp_path):
    """Every load is in the file when the next begins: in pieces, the loads are the same."""
    subject = subject_of(gpu="A10G", max_num_batched_tokens=512)
    engine = engine_of(subject)
    path = tmp_path / "a10g.yaml.measuring.json"
    whole, _ = measured(engine, subject, 0.06)

    pieces, steps = measured(engine, subject, 0.06, budget_s=300.0, path=path)
    assert not pieces.settled
    assert "budget" in pieces.why
    assert journal.load(path, subject) == pieces.measured
    assert sum(step.measurement.seconds for step in steps[:-1]) <= 300.0
    while not pieces.settled:
        pieces, steps = measured(engine, subject, 0.06, budget_s=700.0, path=path)

    assert pieces.measured == whole.measured
    assert len(steps) < len(whole.measured)


@pytest.mark.long
def test_each_load_says_how_long_the_rest_takes():
    """Numbers from one on, what is left of the budget, and nothing left at the end."""
    subject = subject_of(gpu="A10G", max_num_batched_tokens=512)

    result, steps = measured(engine_of(subject), subject, 0.06, budget_s=7200.0)

    assert [step.number for step in steps] == list(range(1, len(result.measured) + 1))
    assert [step.left_s is None for step in steps] == [False] * (len(steps) - 1) + [True]
    spent_s = sum(step.measurement.seconds for step in steps)
    assert steps[-1].budget_s == pytest.approx(7200.0 - spent_s)
    # What the first one said is of the size of what it took.
    assert steps[0].left_s == pytest.approx(spent_s, rel=0.75)


class DisturbedBackend:
    """An engine that serves others too, beside some loads: all its times are longer."""

    def __init__(self, engine: Profile, disturbed: Callable[[int, Load], bool]) -> None:
        """disturbed: whether a load is, by its number."""
        self._backend = VirtualBackend(engine)
        self._disturbed = disturbed
        self._number = 0

    async def play(self, load: Load) -> LoadPoint:
        """As an engine that is slowed down for some loads."""
        self._number += 1
        found = self._backend.played(load)
        if self._disturbed(self._number, load):
            return msgspec.structs.replace(found, tpot_s=found.tpot_s * 2)
        return found


def test_a_backend_that_serves_others_is_refused(tmp_path):
    """More users were faster, again and again: somebody else is served. What is believed is
    kept."""
    subject = subject_of()
    engine = engine_of(subject)
    path = tmp_path / "a.json"
    often = DisturbedBackend(engine, lambda _, load: load.users == 2)

    with pytest.raises(Unmeasurable, match="it was faster with 4 users"):
        measured(engine, subject, 0.05, path=path, backend=often)

    assert {one.load.users for one in journal.load(path, subject)} == {1, 2}


def test_loads_that_were_disturbed_for_a_moment_are_measured_again(tmp_path):
    """The result is that of an engine that was not; each says why it is measured again."""
    subject = subject_of()
    engine = engine_of(subject)
    once = DisturbedBackend(engine, lambda number, _: number in (1, 2))

    found, steps = measured(engine, subject, 0.05, budget_s=300.0, backend=once)
    alone, _ = measured(engine, subject, 0.05, budget_s=200.0)

    doubts = [step.doubt for step in steps if step.doubt]
    assert doubts
    assert all("it was faster with" in doubt for doubt in doubts)
    assert all(one in found.measured for one in alone.measured)
