"""What a gateway wrote of its traffic is a trace as it is, for every command that reads one."""

from pathlib import Path
from typing import Any

import pytest

from planner.errors import InvalidFile
from planner.traffic.formats import ReadingChoices
from planner.traffic.gateway_trace import HEADER, ServedRequest, hashed_caller, written
from planner.traffic.trace import read_trace
from planner.traffic.trace_import import import_trace

BEGIN_S = 1_790_000_000.0  # on a clock of our days
SECRET = b"pepper"


def served(at_s: float, **fields: Any) -> ServedRequest:
    plain: dict[str, Any] = {
        "caller": "c1", "model": "m", "adapter": "", "endpoint": "chat", "slo_class": "default",
        "outcome": "ok", "input_tokens": 100, "output_tokens": 20, "cached_tokens": 0, "width": 1,
        "estimated": False, "ttft_s": 0.25, "duration_s": 1.5,
    }  # fmt: skip
    return ServedRequest(at_s=BEGIN_S + at_s, **(plain | fields))


def test_rows_in_the_order_of_their_ends_are_read_in_that_of_their_arrivals(tmp_path: Path):
    """From the first arrival on; a long request stands behind those that came after it."""
    path = tmp_path / "traffic.csv"
    ended = [served(2.5, input_tokens=7), served(0.25, cached_tokens=30), served(4, caller="")]
    path.write_text(HEADER + written(ended, SECRET))

    trace = read_trace(path)

    assert trace.arrival_s.tolist() == [0.0, 2.25, 3.75]
    assert trace.input_tokens.tolist() == [100, 7, 100]
    assert trace.cached_tokens.tolist() == [30, 0, 0]
    assert trace.key == (hashed_caller("c1", SECRET), hashed_caller("c1", SECRET), "")


def test_a_request_of_several_sequences_is_so_many(tmp_path: Path):
    """As to the engine, and as in observed demand."""
    path = tmp_path / "traffic.csv"
    path.write_text(HEADER + written([served(0, width=3), served(1)], SECRET))

    assert read_trace(path).arrival_s.tolist() == [0, 0, 0, 1]


def test_what_costs_no_engine_anything_is_left_out(tmp_path: Path):
    """A client's mistake, and what no plan is made for; what was refused for lack of room is the
    demand that a plan is needed for."""
    path = tmp_path / "traffic.csv"
    ends = ["ok", "shed", "failed", "abandoned", "rejected"]
    rows = [served(n, outcome=end) for n, end in enumerate(ends)]
    path.write_text(HEADER + written([*rows, served(9, slo_class="best-effort")], SECRET))

    assert read_trace(path).arrival_s.tolist() == [0, 1, 2, 3]


def test_one_model_and_class_are_chosen_on_one_clock(tmp_path: Path):
    """So that traces of several classes from one file can be played together."""
    path = tmp_path / "traffic.csv"
    rows = [
        served(0, model="a"), served(1, model="b"), served(2, model="a", slo_class="batch"),
    ]  # fmt: skip
    path.write_text(HEADER + written(rows, SECRET))

    assert read_trace(path, model="a").arrival_s.tolist() == [0, 2]
    assert read_trace(path, model="a", slo_class="batch").arrival_s.tolist() == [2]
    assert read_trace(path, model="b").arrival_s.tolist() == [1]
    with pytest.raises(InvalidFile, match=r"'a', 'b'.*--model"):
        read_trace(path)
    with pytest.raises(InvalidFile, match=r"no requests of model `c`.*'a', 'b'"):
        read_trace(path, model="c")


def test_other_traces_are_read_whole(tmp_path: Path):
    """Whatever model is asked for: their columns mean what their owners say."""
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,input_tokens,output_tokens,model\n0,5,5,x\n1,5,5,y\n")

    assert len(read_trace(path, model="m")) == 2


def test_a_line_that_is_not_whole_yet_is_not_read(tmp_path: Path):
    """The gateway may be writing; or it was killed."""
    path = tmp_path / "traffic.csv"
    path.write_text((HEADER + written([served(0), served(1)], SECRET))[:-3])

    assert len(read_trace(path)) == 1
    assert len(import_trace(path, ReadingChoices()).trace) == 1


def test_files_put_together_in_any_order_are_one_trace(tmp_path: Path):
    """With the header of each."""
    path = tmp_path / "traffic.csv"
    path.write_text(
        HEADER + written([served(5)], SECRET) + HEADER + written([served(0)], SECRET),
    )

    assert read_trace(path).arrival_s.tolist() == [0, 5]
    assert import_trace(path, ReadingChoices()).trace.arrival_s.tolist() == [0, 5]


def test_an_import_says_what_it_left_out_and_what_is_estimated(tmp_path: Path):
    """The same requests as a plain trace; `--model` chooses."""
    path = tmp_path / "traffic.csv"
    rows = [
        served(0, width=2), served(1, outcome="rejected"), served(2, estimated=True),
        served(3, model="other"),
    ]  # fmt: skip
    path.write_text(HEADER + written(rows, SECRET))

    imported = import_trace(path, ReadingChoices(), model="m")

    assert imported.trace.arrival_s.tolist() == [0, 0, 2]
    assert imported.estimated == 1
    assert imported.left_out == {"a client's mistake": 1, "model other": 1}


@pytest.mark.parametrize("width", ["0", "-1", "x", "99999999999"])
def test_a_width_that_is_none_is_refused(tmp_path: Path, width: str):
    """No number in a file decides how much memory is used."""
    path = tmp_path / "traffic.csv"
    path.write_text(HEADER + written([served(0)], SECRET).replace(",ok,1,", f",ok,{width},"))

    with pytest.raises(InvalidFile, match="width"):
        read_trace(path)


def test_nobody_is_found_without_the_salt():
    """A key is the same within a file, differs between salts, and tells nothing by itself."""
    assert hashed_caller("c1", b"a") == hashed_caller("c1", b"a")
    assert hashed_caller("c1", b"a") != hashed_caller("c1", b"b")
    assert "c1" not in written([served(0)], SECRET)
