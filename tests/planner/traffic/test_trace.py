"""Traces: reading, cutting, measuring."""

from pathlib import Path

import numpy as np
import pytest

from planner.errors import InvalidFile, InvalidValue
from planner.traffic.trace import Trace, dispersion, merge_traces, read_trace

HEADER = "arrival_s,input_tokens,output_tokens"


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_trace_reads_back(tmp_path: Path):
    """Times, sizes and keys come out as they stand in the file; a missing key is empty."""
    path = written(tmp_path, HEADER + ",key", "0.5,100,20,alice", "2,7,3,")

    trace = read_trace(path)

    assert trace.arrival_s.tolist() == [0.5, 2.0]
    assert trace.input_tokens.tolist() == [100, 7]
    assert trace.output_tokens.tolist() == [20, 3]
    assert trace.key == ("alice", "")
    assert trace.duration_s == 2.0
    assert trace.rate == 1.0


def test_the_key_column_may_be_missing(tmp_path: Path):
    """A trace without keys has empty ones."""
    assert read_trace(written(tmp_path, HEADER, "0,1,1")).key == ("",)


def test_prefix_hits_are_a_column_that_may_be_missing_or_empty(tmp_path: Path):
    """In any place of the header; a slice, a choice and a merge of rows keep them."""
    header = "cached_tokens,arrival_s,input_tokens,output_tokens"
    trace = read_trace(written(tmp_path, header, "60,0,100,5", ",1,100,5", "100,2,100,5"))
    silent = read_trace(written(tmp_path, HEADER, "0,100,5"))

    assert trace.cached_tokens.tolist() == [60, 0, 100]
    assert trace.slice(1, 3).cached_tokens.tolist() == [0, 100]
    assert trace.take(np.array([2, 0])).cached_tokens.tolist() == [100, 60]
    assert merge_traces((silent, trace))[0].cached_tokens.tolist() == [0, 60, 0, 100]
    assert silent.cached_tokens.tolist() == [0]


@pytest.mark.parametrize("hits", ["101", "-1", "0.5", "all"])
def test_hits_never_exceed_the_prompt(tmp_path: Path, hits: str):
    """The error names line and column."""
    path = written(tmp_path, HEADER + ",cached_tokens", "0,100,5,100", f"1,100,5,{hits}")

    with pytest.raises(InvalidFile, match=r"trace.csv:3: cached_tokens"):
        read_trace(path)
    with pytest.raises(InvalidValue, match="cached_tokens"):
        Trace(
            arrival_s=np.zeros(1), input_tokens=np.ones(1), output_tokens=np.ones(1), key=("",),
            cached_tokens=np.full(1, 1.5),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "words"),
    [("nan,5,5", "arrival_s"), ("-1,5,5", "arrival_s"), ("inf,5,5", "arrival_s"),
     ("x,5,5", "arrival_s"),     ("0.5,5,5", "before"), ("2,0,5", "input_tokens"),
     ("2,1.5,5", "input_tokens"),
     ("2,5,-1", "output_tokens"), ("2,5,nan", "output_tokens"), ("2,5", "columns"), 
     ("2,5,5,x", "columns"),     ("2,99999999999999999999,5", "input_tokens")],
)  # fmt: skip
def test_a_malformed_line_is_named(tmp_path: Path, line: str, words: str):
    """The error begins with path and line and says what is wrong."""
    path = written(tmp_path, HEADER, "1,5,5", line)

    with pytest.raises(InvalidFile) as caught:
        read_trace(path)

    assert str(caught.value).startswith(f"{path}:3: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["", "arrival_s,input_tokens\n1,2\n", HEADER + "\n"])
def test_a_file_without_columns_or_requests_is_refused(tmp_path: Path, text: str):
    """An empty file, a header without the columns and a header alone are errors."""
    path = tmp_path / "trace.csv"
    path.write_text(text)

    with pytest.raises(InvalidFile, match=r"trace.csv:[12]: "):
        read_trace(path)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path):
    """Binary data and missing files are InvalidFile too."""
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(InvalidFile, match="UTF-8"):
        read_trace(path)
    with pytest.raises(InvalidFile, match="absent"):
        read_trace(tmp_path / "absent.csv")


def test_a_slice_is_half_open_and_starts_at_zero(tmp_path: Path):
    """Slices that meet share no request and lose none."""
    trace = read_trace(written(tmp_path, HEADER, "0,1,1", "1,2,1", "2,3,1", "3,4,1"))

    assert trace.slice(1, 3).input_tokens.tolist() == [2, 3]
    assert trace.slice(1, 3).arrival_s.tolist() == [0, 1]
    assert len(trace.slice(0, 1.5)) + len(trace.slice(1.5, 9)) == len(trace)
    assert len(trace.slice(5, 9)) == 0
    assert trace.slice(5, 9).rate is None


def test_columns_of_different_length_are_refused():
    """A trace has one value in each column for every request."""
    one, two = np.ones(1), np.ones(2)
    with pytest.raises(InvalidValue, match="differ in length"):
        Trace(arrival_s=one, input_tokens=two, output_tokens=two, key=("", ""))


def test_regular_poisson_and_bursty_arrivals_are_told_apart():
    """The index of dispersion is 0 for a clock, 1 for Poisson, and the batch size for batches."""
    random = np.random.default_rng(7)
    poisson = np.sort(random.uniform(0, 20_000, 100_000))

    assert dispersion(np.arange(10_000) / 10, 10, 1000) == pytest.approx(0)
    assert dispersion(poisson, 10, 20_000) == pytest.approx(1, abs=0.1)
    assert dispersion(np.repeat(poisson, 6), 10, 20_000) == pytest.approx(6, abs=0.6)


def test_a_moment_far_away_needs_no_memory():
    """Windows without arrivals are counted and not stored: a billion of them, and more."""
    arrival_s = np.array([0.0, 1.0, 1e15])

    assert dispersion(arrival_s, 1.0, 1e15) == pytest.approx(1)
    assert dispersion(np.repeat(arrival_s, 4), 1.0, 1e15) == pytest.approx(4)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["1700000000,5,5"], r"trace.csv:2: arrival_s 1700000000 is 53.9 years: .*trace import"),
        (["0,5,5", "1e300,5,5"], r"trace.csv:3: arrival_s 1e300"),
        (["0,5,5"] * 150 + ["1e-9,5,5"], r"trace.csv:152: 151 requests in 1e-09 s, which no fleet"),
    ],
)
def test_times_that_no_fleet_has_seen_are_refused(tmp_path: Path, lines: list[str], words: str):
    """Clocks since 1970 and other units are told from seconds since the start."""
    with pytest.raises(InvalidFile, match=words):
        read_trace(written(tmp_path, HEADER, *lines))


def test_too_little_to_know_is_unknown():
    """Fewer than five whole windows, or no arrivals, give None."""
    assert dispersion(np.arange(49.0), 10, 49.9) is None
    assert dispersion(np.zeros(0), 10, 100) is None
    assert dispersion(np.arange(50.0), 10, 50) is not None


def test_a_window_has_a_length():
    """A window of zero seconds is refused by name."""
    with pytest.raises(InvalidValue, match="window_s"):
        dispersion(np.arange(5.0), 0, 10)


def test_merged_traces_lose_nothing_and_know_their_rows():
    """All requests in order of arrival, each with the row it had; ties go to the earlier trace."""
    one, two = (
        Trace(
            arrival_s=np.array(times),
            input_tokens=np.array(sizes),
            output_tokens=np.array(sizes) * 2,
            key=tuple(str(size) for size in sizes),
        )
        for times, sizes in (([0.0, 2.0, 5.0], [1.0, 2.0, 3.0]), ([2.0, 3.0], [4.0, 5.0]))
    )

    whole, row = merge_traces((one, two))

    assert whole.arrival_s.tolist() == [0.0, 2.0, 2.0, 3.0, 5.0]
    assert row.tolist() == [0, 1, 3, 4, 2]
    assert whole.key == ("1.0", "2.0", "4.0", "5.0", "3.0")
    assert whole.output_tokens.tolist() == [2.0, 4.0, 8.0, 10.0, 6.0]
