"""Where the keys of a file stand."""

from pathlib import Path

from planner.document import read, under


def test_every_key_and_entry_has_its_line(tmp_path: Path):
    """A key that is not there has that of the nearest one above it."""
    path = tmp_path / "a.yaml"
    path.write_text("a:\n  b.c: 1\n  d:\n    - 2\n    - {e: 3}\nf: &x {g: 1}\nh: *x\n")

    document = read(path)

    assert document.value == {"a": {"b.c": 1, "d": [2, {"e": 3}]}, "f": {"g": 1}, "h": {"g": 1}}
    lines = {"a": 1, "a.b.c": 2, "a.d[0]": 4, "a.d[1].e": 5, "a.d[1].z": 5, "a.z": 1, "h.g": 7}
    assert {key: document.line_of(key) for key in lines} == lines
    assert document.line_of("z") is None


def test_json_has_no_lines(tmp_path: Path):
    """What is said about it names the key alone."""
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')

    assert read(path) == ({"a": 1}, {})


def test_a_path_of_keys_is_one_line():
    """Whatever a name holds."""
    assert under("a", "b") == "a.b"
    assert under("", 4) == "4"
    assert under("a", "b\r\nc") == "a.'b\\r\\nc'"
