"""A file of backends: what it may say, and what is told of one that cannot be used."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from gateway.discovery.file_source import FileSource
from gateway.discovery.source import Found
from planner.errors import InvalidFile

BOTH = ("a", "b")


@pytest.mark.parametrize(
    ("name", "text", "pools", "urls"),
    [
        ("b.yaml", "- http://x:1/\n- http://y:1\n", ("a",), {"a": ("http://x:1", "http://y:1")}),
        ("b.json", '["http://x:1"]', ("a",), {"a": ("http://x:1",)}),
        ("b.json", "[]", ("a",), {"a": ()}),
        ("b.yaml", "a: [http://x:1]\nb: []\n", BOTH, {"a": ("http://x:1",), "b": ()}),
        ("b.yaml", "a: [http://x:1]\n", ("a",), {"a": ("http://x:1",)}),
    ],
)
def test_a_list_or_lists_by_pool(tmp_path, name, text, pools, urls):
    """YAML and JSON; an empty list is a list."""
    path = tmp_path / name
    path.write_text(text)

    assert FileSource(path, pools).look() == Found(urls)


@pytest.mark.parametrize(
    ("text", "pools", "told"),
    [
        ("", ("a",), "b.yaml: empty: no backends are written as []"),
        ("three\n", ("a",), "b.yaml: must be a list of base URLs, or such lists by pool"),
        ("- http://x:1\n", BOTH, "several pools follow the file (a, b): name them"),
        ("- http://x:1\n- x:1\n", ("a",), "b.yaml:2: [1]: must start with http:// or https://"),
        ("- http://x:1\n- 7\n", ("a",), "b.yaml:2: [1]: must be a base URL"),
        ("a:\n- http://x:1/v1\n", BOTH, "b.yaml:2: a[0]: must not end in /v1"),
        ("a: http://x:1\n", BOTH, "b.yaml:1: a: must be a list of base URLs"),
        ("a: []\na: []\n", BOTH, "a"),
        ("- http://x:1\n- [", ("a",), "b.yaml:"),
        ("- \x00", ("a",), "b.yaml"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_line(tmp_path, text, pools, told):
    """One bad entry refuses the whole file: half of a fleet is none that anybody wanted."""
    path = tmp_path / "b.yaml"
    path.write_text(text)

    with pytest.raises(InvalidFile) as caught:
        FileSource(path, pools).look()

    assert told in str(caught.value)


def test_pools_that_the_file_does_not_name_keep_what_they_have(tmp_path):
    """A missing list is no empty one; a name that nobody follows is told."""
    path = tmp_path / "b.yaml"
    path.write_text("a: [http://x:1]\nother: [http://y:1]\n")

    found = FileSource(path, BOTH).look()

    assert found.urls == {"a": ("http://x:1",)}
    assert found.remarks == (
        "pool other does not follow this file",
        "has no list for pool b, which keeps its backends",
    )


class Heard:
    """What a source has told; `next` waits for something that has not been told before."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[object] = asyncio.Queue()
        self.last: object = None

    async def next(self) -> object:
        async with asyncio.timeout(20):
            while (heard := await self.queue.get()) == self.last:
                pass
        self.last = heard
        return heard


@asynccontextmanager
async def heard(source):
    told = Heard()
    task = asyncio.create_task(source.run(told.queue.put_nowait, told.queue.put_nowait))
    try:
        yield told
    finally:
        task.cancel()


@pytest.mark.long
async def test_a_file_is_followed_through_all_that_may_happen_to_it(tmp_path):
    """Missing, written, replaced by a renamed one, behind a link, broken, and removed."""
    path, other = tmp_path / "b.yaml", tmp_path / "new.yaml"
    async with heard(FileSource(path, ("a",))) as at:
        assert "No such file" in str(await at.next())
        path.write_text("[http://x:1]")
        assert await at.next() == Found({"a": ("http://x:1",)})
        other.write_text("[http://y:1]")
        other.replace(path)
        assert await at.next() == Found({"a": ("http://y:1",)})
        path.write_text("[http://")
        assert "b.yaml:2: did not find" in str(await at.next())
        (tmp_path / "real").write_text("[]")
        path.unlink()
        path.symlink_to("real")
        assert await at.next() == Found({"a": ()})
        path.unlink()
        assert "No such file" in str(await at.next())
