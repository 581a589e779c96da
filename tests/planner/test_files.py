"""Files of a known format: every mistake is a line with its key, in words of the file."""

import datetime
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from planner.document import noted
from planner.errors import InvalidFile
from planner.files import decoded, loaded, parts

GiB = Annotated[float, Meta(ge=1, le=2000, description="in GiB, 1 to 2,000")]


class Chip(msgspec.Struct, forbid_unknown_fields=True):
    """A section that checks itself."""

    name: str
    memory_gib: GiB
    cores: int | None = None

    def __post_init__(self) -> None:
        if self.name == "none":
            raise ValueError("name: must not be none\ncores: there are none")


class Form(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A format with every kind of value."""

    format: Literal["form/1"]
    dtype: Literal["fp16", "bf16", "fp8"] = "fp16"
    chip: str | Chip = "any"
    day: datetime.date | None = None
    loud: bool = False
    table: tuple[tuple[float, ...], ...] = ()
    pair: tuple[int, int] = (1, 2)
    chips: dict[str, Chip] = {}
    size: GiB | None = None


class Loose(msgspec.Struct):
    """A format of others, of which two keys are read."""

    wanted: int
    maybe: str | None = None


def written(folder: Path, text: str, name: str = "form.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_right_file_is_its_value(tmp_path: Path):
    """Dates, tables, sections and names, from YAML and from JSON; unread keys where allowed."""
    text = (
        "format: form/1\nday: 2026-07-01\nloud: true\ntable: [[1, 2.5]]\npair: [3, 4]\n"
        "chip: {name: a, memory_gib: 4}\nsize: null\n"
        "chips: {b: {name: b, memory_gib: 1, cores: 2}}\n"
    )
    read = decoded(written(tmp_path, text), Form)
    loose = decoded(written(tmp_path, '{"wanted": 3, "other": [1]}', "a.JSON"), Loose)

    assert read == Form(
        format="form/1", day=datetime.date(2026, 7, 1), loud=True, table=((1.0, 2.5),), pair=(3, 4),
        chip=Chip(name="a", memory_gib=4.0), chips={"b": Chip(name="b", memory_gib=1, cores=2)},
    )  # fmt: skip
    assert loose == Loose(wanted=3)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("dtpye: fp8", "dtpye: unknown key; did you mean dtype?"),
        ("colour: red", "colour: unknown key"),
        ("dtype: int8", "dtype: int8 is none of fp16, bf16, fp8"),
        ("dtype: [fp16]", "dtype: a list is none of fp16, bf16, fp8"),
        ("size: big", "size: must be a number, is text: big"),
        ("size: 1e1", "size: must be a number, is text: 1e1 (write 10)"),
        ("size: true", "size: must be a number, is true or false"),
        ("size: 85899345920", "size: must be in GiB, 1 to 2,000: 85899345920"),
        ("size: .nan", "size: must be in GiB, 1 to 2,000: nan"),
        ("chip: 4090", "chip: must be a name or a mapping, is a number"),
        ("chip: {name: 4090, memory_gib: 2}",
         "chip.name: must be text, is a number: put 4090 in quotes"),
        ("chip: {name: a, memory_gb: 2}",
         "chip.memory_gb: unknown key; did you mean memory_gib?"),
        ("chip: {name: a}", "chip.memory_gib: missing"),
        ("chip: {name: a, memory_gib: 2, cores: 1.5}",
         "chip.cores: must be a whole number: 1.5"),
        ("chip: {name: none, memory_gib: 2}",
         "chip.name: must not be none|chip.cores: there are none"),
        ("chips: {a: 3}", "chips.a: must be a mapping, is a number"),
        ("chips: {4: {name: a, memory_gib: 2}}", "chips.4: the key must be text: put it in quotes"),
        ("chips: [a]", "chips: must be a mapping, is a list"),
        ("day: someday", "day: must be a date, is text"),
        ("loud: 1", "loud: must be true or false, is a number"),
        ("table: [[1], [2, x]]", "table[1][1]: must be a number, is text: x"),
        ("table: 3", "table: must be a list, is a number"),
        ("pair: [1]", "pair: must be a list of 2, has 1"),
        ("format: form/2", "format: form/2 is none of form/1"),
        ("day: 2026-02-30", "day is out of range for month"),
    ],
)  # fmt: skip
def test_a_mistake_is_a_line_with_file_and_key(tmp_path: Path, line: str, problem: str):
    """No word of the program that reads the file."""
    own = "" if line.startswith("format") else "format: form/1\n"
    path = written(tmp_path, f"{own}{line}\n\n")

    with pytest.raises(InvalidFile) as caught:
        decoded(path, Form)

    assert str(caught.value) == "\n".join(f"{path}: {one}" for one in problem.split("|"))


def test_all_mistakes_are_told_at_once(tmp_path: Path):
    """One does not hide another; what is right can still be used."""
    path = written(tmp_path, "dtype: int8\nloud: 1\nsize: 3\nchip: {nam: a, memory_gib: 0}\n")

    with pytest.raises(InvalidFile) as caught:
        decoded(path, Form)
    found = parts(path, Form)

    assert str(caught.value).splitlines() == [
        f"{path}: dtype: int8 is none of fp16, bf16, fp8",
        f"{path}: loud: must be true or false, is a number",
        f"{path}: chip.nam: unknown key; did you mean name?",
        f"{path}: chip.memory_gib: must be in GiB, 1 to 2,000: 0",
        f"{path}: format: missing",
    ]
    assert found.values == {"size": 3.0}
    assert found.wrong == {"dtype", "loud", "chip", "format"}


def test_a_key_that_stands_twice_is_named_with_both_lines(tmp_path: Path):
    """At any depth; YAML itself would take the last of them."""
    path = written(
        tmp_path, "format: form/1\nloud: true\nchips:\n  a: {name: a, memory_gib: 1, name: b}\n"
        "loud: false\ntable: [{x: 1,\n x: 2}]\n")  # fmt: skip

    with pytest.raises(InvalidFile) as caught:
        decoded(path, Form)

    assert str(caught.value).splitlines() == [
        f"{path}: chips.a.name: stands twice, in lines 4 and 4",
        f"{path}: loud: stands twice, in lines 2 and 5",
        f"{path}: table[0].x: stands twice, in lines 6 and 7",
    ]


@pytest.mark.parametrize("text", ["", "- a\n", "words\n"])
def test_a_file_without_keys_is_refused(tmp_path: Path, text: str):
    """Nothing, a list, a word."""
    path = written(tmp_path, text)

    with pytest.raises(InvalidFile, match=r"form\.yaml: must be a mapping, is "):
        decoded(path, Form)
    assert parts(path, Form).wrong == {"format"}


def test_a_mistake_of_yaml_names_its_line(tmp_path: Path):
    """As `file:line`, which editors know."""
    path = tmp_path / "form.yaml"
    path.write_text("a: 1\nloud: [oops\n")

    with pytest.raises(InvalidFile, match=re.escape(f"{path}:3: did not find expected")):
        loaded(path)


def test_what_is_read_can_be_noted(tmp_path):
    """Also a file that is missing; an outer note has what an inner one has."""
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")
    with noted() as outer:
        with noted() as inner:
            loaded(path)
        with pytest.raises(InvalidFile):
            loaded(tmp_path / "b.yaml")
    loaded(path)

    assert inner == [path]
    assert outer == [path, tmp_path / "b.yaml"]
