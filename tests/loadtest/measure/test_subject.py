"""What is measured, as a profile states it."""

import msgspec
import pytest

from loadtest.measure.load import Load, LoadPoint
from loadtest.measure.subject import Subject, errors
from planner.engine.profiles import find_profile

SUBJECT = Subject(
    gpu="H100", model="Llama-3-8B", engine="vllm-v1", dtype="fp16", tensor_parallel_size=1,
    served_as="llama", max_num_batched_tokens=2048,
)  # fmt: skip
POINT = LoadPoint(
    load=Load(input_tokens=100, output_tokens=50, users=8), input_tokens=101.5, output_tokens=50,
    rate=3.0, ttft_s=0.1, tpot_s=0.02, spread=1.1, seconds=9.0,
)  # fmt: skip


def test_the_longest_request_is_stated_or_the_model_s():
    """As the backend says; else the default, or the model's context where that is shorter."""
    assert SUBJECT.longest == 8192
    assert msgspec.structs.replace(SUBJECT, max_model_len=3000).longest == 3000
    assert msgspec.structs.replace(SUBJECT, model="Llama-2-7B").longest == 4096
    assert msgspec.structs.replace(SUBJECT, model="Own").longest == 8192


def test_seats_that_were_seen_are_the_limit_that_is_written():
    """The engine's limit follows from its metrics, unless the user states it."""
    seen = msgspec.structs.replace(POINT, seats=48)

    assert SUBJECT.spec([POINT]).max_num_seqs is None
    assert SUBJECT.spec([POINT, seen]).max_num_seqs == 48
    stated = msgspec.structs.replace(SUBJECT, max_num_seqs=64)
    assert stated.spec([seen]).max_num_seqs == 64


def test_few_points_are_no_profile():
    """Until the fit needs no prior, so that it does not lean on rows that may be wrong."""
    assert SUBJECT.profile([POINT]) is None


def test_the_error_of_a_size_is_that_of_its_worst_point(tmp_path):
    """In TPOT, beside the planner's own formula."""
    profile = find_profile("llama-3-8b/H100", tmp_path)
    fitted_s = float(profile.tpot_s(POINT.decoding, 101.5, 50.0))
    off = [
        msgspec.structs.replace(POINT, rate=POINT.rate * POINT.tpot_s / (fitted_s / by),
                                tpot_s=fitted_s / by)
        for by in (1.02, 0.9)
    ]  # fmt: skip

    assert errors(profile, off) == {(100, 50): pytest.approx(0.1)}
