"""Whatever is sent is what is received, and what is not ours is refused."""

import math
import re
from contextlib import suppress
from dataclasses import is_dataclass
from hashlib import blake2b
from typing import get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cluster import codec
from gateway.cluster.codec import CodecError, decode, encode
from gateway.cluster.key_frames import KeyFrame
from gateway.cluster.messages import GatewayReport, PlanNews, WhatWasLearned
from gateway.routing.estimator_schema import EstimatorState, Lesson
from gateway.routing.membership import Membership, first
from gateway.routing.table import RoutingTable, compile_table
from gateway.telemetry.stats_schema import Histogram, PoolStats, StatsDelta, WorkerGauges
from gateway.workers.messages import Down, Up, WorkerReport
from planner.model.buckets import Buckets, SloClass
from planner.model.plan import Certificate, Plan, Relaxation, SingleType, Unserved
from planner.sizes import Grid
from planner.slo import Slo

# Of the fields of every type that is encoded. When it changes, raise `codec.VERSION`, unless all
# that changed is a new field with a default; then put the new value here.
FINGERPRINT = "c47bf00a293d6e77"

NUMBERS = st.floats(allow_nan=False)  # infinite where a pool cannot serve a bucket
COUNTS = st.integers(0, 10**9)
NAMES = st.text(max_size=8)
BUCKETS = st.builds(
    Buckets,
    classes=st.tuples(
        st.builds(
            SloClass,
            model=NAMES,
            name=NAMES,
            slo=st.builds(
                Slo,
                ttft_s=st.floats(0.001, 1e6),
                tpot_s=st.floats(0.001, 1e6),
                attainment=st.floats(0.5, 0.9999),
            ),
        )
    ),
    grid=st.just(Grid(input_edges=(1, 64, 256), output_edges=(1, 32, 128))),
)
MATRIX = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4).map(tuple)
ROW = st.lists(NUMBERS, max_size=4).map(tuple)
PLANS = st.builds(
    Plan,
    plan_id=NAMES,
    objective=st.sampled_from(["provision", "assign"]),
    buckets=BUCKETS,
    pools=st.tuples(NAMES, NAMES),
    backends=st.tuples(COUNTS, COUNTS),
    weights=MATRIX,
    rate=ROW,
    seconds=MATRIX,
    slots=MATRIX,
    load=ROW,
    tail=ROW,
    cached_share=ROW,
    usd_per_hour=NUMBERS,
    lower_bound_usd_per_hour=NUMBERS,
    gap=NUMBERS,
    solve_s=NUMBERS,
    unserved=st.tuples(st.builds(Unserved, bucket=COUNTS, rate=NUMBERS, reason=NAMES)),
    singles=st.tuples(
        st.builds(
            SingleType,
            gpu=NAMES,
            usd_per_hour=NUMBERS,
            backends=st.tuples(st.tuples(NAMES, COUNTS)),
            why=st.none() | NAMES,
        )
    ),
    relaxation=st.none()
    | st.builds(Relaxation, limit=NAMES, more=st.none() | NUMBERS, usd_per_hour=NUMBERS),
    certificate=st.none()
    | st.builds(
        Certificate,
        attainment=NUMBERS,
        low=NUMBERS,
        high=NUMBERS,
        worst=NUMBERS,
        target=NUMBERS,
        seeds=COUNTS,
        requests=COUNTS,
        model=st.none() | NAMES,
    ),
)
HISTOGRAMS = st.builds(
    Histogram, counts=st.lists(COUNTS, min_size=15, max_size=15), seconds=st.floats(0, 1e6)
)
DELTAS = st.builds(
    StatsDelta,
    arrivals=st.dictionaries(COUNTS, COUNTS, max_size=3),
    sizes=st.dictionaries(
        st.tuples(COUNTS, COUNTS), st.tuples(*[st.floats(0, 1e6)] * 4), max_size=3
    ),
    by_pool=st.dictionaries(
        st.tuples(NAMES, NAMES, NAMES),
        st.builds(
            PoolStats,
            ends=st.dictionaries(st.tuples(NAMES, COUNTS, NAMES, NAMES), COUNTS, max_size=2),
            ttft=HISTOGRAMS,
            tpot=HISTOGRAMS,
            duration=HISTOGRAMS,
            waited=HISTOGRAMS,
            sheds=st.dictionaries(NAMES, COUNTS, max_size=2),
            input_tokens=COUNTS,
            cached_tokens=COUNTS,
        ),
        max_size=2,
    ),
    refusals=st.dictionaries(st.tuples(COUNTS, NAMES), COUNTS, max_size=2),
    failures=st.dictionaries(st.tuples(NAMES, NAMES), COUNTS, max_size=2),
    hits=st.dictionaries(st.tuples(NAMES, NAMES), st.tuples(COUNTS, COUNTS), max_size=2),
    stays=st.lists(
        st.tuples(NAMES, NAMES, st.floats(0, 1e6), st.floats(0, 1e6), COUNTS, COUNTS, COUNTS),
        max_size=2,
    ),
)
LESSONS = st.builds(
    Lesson,
    model=NAMES,
    caller=NAMES,
    endpoint=NAMES,
    prompt_bytes=COUNTS,
    max_tokens=st.none() | COUNTS,
    estimated_input=COUNTS,
    input_tokens=st.none() | COUNTS,
    output_tokens=st.none() | COUNTS,
)
GAUGES = st.builds(
    WorkerGauges,
    queued=COUNTS,
    connections=COUNTS,
    retry_budget=NUMBERS,
    breakers_open=COUNTS,
    resting=st.tuples(NAMES),
)
REPORTS = st.builds(
    WorkerReport,
    delta=DELTAS,
    lessons=st.lists(LESSONS, max_size=2).map(tuple),
    gauges=GAUGES,
    membership=COUNTS,
    numbering=COUNTS,
    leaving=st.booleans(),
)


@given(PLANS)
@settings(max_examples=50)
def test_a_plan_comes_back_as_it_was(plan):
    """Every field, infinite ones too."""
    assert decode(encode(plan), Plan) == plan


def test_a_table_comes_back_as_it_was(plan, pools):
    """Of a solved plan: what another process would route by is the same."""
    table = compile_table(plan, pools)

    assert decode(encode(table), RoutingTable) == table


@given(REPORTS)
@settings(max_examples=50)
def test_a_report_comes_back_as_it_was(report):
    """Counters, gauges and lessons, among the messages of its direction."""
    assert decode(encode(report), Up) == report


@given(DELTAS, DELTAS)
@settings(max_examples=50)
def test_statistics_add_up_on_either_side(one, other):
    """It does not matter whether deltas are added before they are sent or after."""
    sent = decode(encode(one), StatsDelta)
    sent.add(decode(encode(other), StatsDelta))
    one.add(other)

    assert encode(sent) == encode(one)


def test_a_membership_comes_back_as_it_was():
    """Names, rows and the numbers that come next."""
    membership = first({"a": ("http://x", "http://y"), "b": ()})

    assert decode(encode(membership), Membership) == membership


@given(st.binary(max_size=40), st.sampled_from([Plan, RoutingTable, StatsDelta, Membership, Up]))
def test_any_bytes_are_a_value_or_a_codec_error(data, kind):
    """Nothing else is raised, whatever comes from the other side."""
    for frame in (data, bytes((codec.VERSION,)) + data):
        with suppress(CodecError):
            decode(frame, kind)


@given(REPORTS, st.data())
@settings(max_examples=50)
def test_a_cut_message_is_refused(report, data):
    """A message that lacks its end is not taken for a shorter one."""
    whole = encode(report)
    cut = data.draw(st.integers(0, len(whole) - 1))

    with pytest.raises(CodecError):
        decode(whole[:cut], Up)


def test_another_version_is_refused():
    """The error names both versions."""
    frame = bytes((codec.VERSION + 1,)) + encode(1)[1:]

    with pytest.raises(CodecError, match=f"{codec.VERSION + 1}.*{codec.VERSION}"):
        decode(frame, int)


def test_values_are_checked_where_they_are_made():
    """A promise that cannot be is refused here too."""
    bad = msgspec.msgpack.encode({"ttft_s": -1.0, "tpot_s": 0.1, "attainment": 0.9})

    with pytest.raises(CodecError, match="ttft_s"):
        decode(bytes((codec.VERSION,)) + bad, Slo)


def test_infinities_survive():
    """Why it is no JSON."""
    assert decode(encode((math.inf, -math.inf)), tuple[float, ...]) == (math.inf, -math.inf)


def shapes(kind, lines):
    """Every field of a type and of the types in it, as text: `Plan.rate: tuple[float, ...]`.

    Without the names of modules, because a type that moves is the same on the wire, and with the
    place of fields that are sent without their names.
    """
    for inner in get_args(kind):
        shapes(inner, lines)
    if not (isinstance(kind, type) and (is_dataclass(kind) or issubclass(kind, msgspec.Struct))):
        return lines
    by_place = issubclass(kind, msgspec.Struct) and kind.__struct_config__.array_like
    for place, (name, hint) in enumerate(get_type_hints(kind).items()):
        text = re.sub(r"\w+\.(?=\w)", "", str(hint))
        text = re.sub(r"Optional\[(\w+)\]", r"\1 | None", text)  # as Python before 3.14 writes some
        line = f"{kind.__name__}.{place if by_place else name}: {text}"
        if line not in lines:
            lines.add(line)
            shapes(hint, lines)
    return lines


def test_changed_fields_need_a_new_version():
    """The fingerprint of all encoded types is the one that was noted with the version."""
    kinds = (
        Plan, RoutingTable, StatsDelta, Membership, EstimatorState, Down, Up, PlanNews,
        GatewayReport, WhatWasLearned, KeyFrame,
    )  # fmt: skip
    text = "\n".join(sorted(set().union(*(shapes(kind, set()) for kind in kinds))))

    assert blake2b(text.encode(), digest_size=8).hexdigest() == FINGERPRINT, text


def test_nested_bytes_are_no_crash():
    """Unknown fields are skipped, and may be nested deeper than Python can follow."""
    with pytest.raises(CodecError):
        decode(bytes((codec.VERSION,)) + b"\x81\xa1a" * 100_000, Slo)
