"""The files of the page: how they are sent, and that they ask nobody else for anything."""

import gzip
import re
from importlib.resources import files
from urllib.parse import urlsplit

import pytest

from gateway.admin.assets import sizes
from gateway.admin.server import AdminServer
from tests.gateway.admin.asking import ask

PAGE = files("gateway.admin").joinpath("page")
LONGEST_FILE = 350


@pytest.fixture
async def admin():
    async with AdminServer({}, host="127.0.0.1", port=0) as server:
        yield server


def headers(head):
    lines = head.decode().split("\r\n")[1:]
    return {name: value for name, _, value in (line.partition(": ") for line in lines)}


async def test_the_page_runs_nothing_and_asks_nobody_but_this_port(admin):
    """Its policy allows no inline script, no inline style and no other host, and no frame."""
    status, head, body = await ask(admin, "GET /")
    told = headers(head)

    assert status == 200
    assert told["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().split(" ", 1) for part in told["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert told["x-content-type-options"] == "nosniff"
    assert b"<script>" not in body
    assert b"style=" not in body
    assert b"@VERSION@" not in body


async def test_the_page_is_asked_for_again_and_its_files_never(admin):
    """Names of the files change with their content."""
    _, head, body = await ask(admin, "GET /")
    told = headers(head)
    assert told["cache-control"] == "no-cache"
    again, _, nothing = await ask(admin, "GET /", f"if-none-match: {told['etag']}")
    assert (again, nothing) == (304, b"")

    for path in re.findall(r'(?:href|src)="(page/[^"]+)"', body.decode()):
        status, head, content = await ask(admin, f"GET /{path}")
        assert status == 200, path
        assert "immutable" in headers(head)["cache-control"]
        packed_status, head, packed = await ask(admin, f"GET /{path}", "accept-encoding: gzip")
        assert packed_status == 200
        assert headers(head)["content-encoding"] == "gzip"
        assert gzip.decompress(packed) == content


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("HEAD /", 200), ("POST /", 405), ("GET /page/old/app.js", 404), ("GET /page/", 404),
        ("GET /page/../server.py", 404),
    ],
)  # fmt: skip
async def test_other_paths_and_methods(admin, text, status):
    """Only what is in the folder is served, at its name of now."""
    assert (await ask(admin, text))[0] == status


def test_each_module_that_is_imported_is_there():
    """And no file names another host, but for the names of SVG's elements."""
    names = {file.name for file in PAGE.iterdir()}
    for name in names:
        text = PAGE.joinpath(name).read_text()
        if name != "uplot.js":
            assert len(text.splitlines()) <= LONGEST_FILE, name
        for imported in re.findall(r'from "\./([^"]+)"', text):
            assert imported in names, f"{name} imports {imported}"
        hosts = {urlsplit(url).hostname for url in re.findall(r"https?://[^\s\"'`)]+", text)}
        assert hosts <= {"www.w3.org", "github.com"}, name


def test_the_page_is_small():
    """All of it, packed as browsers get it, in bytes."""
    assert sum(packed for _, packed in sizes().values()) < 65_000, sizes()


def test_the_licence_of_what_is_vendored_goes_with_it():
    """The chart library is under the MIT licence, which wants its text kept."""
    notice = files("gateway").joinpath("..", "NOTICE").read_text()
    assert "uPlot" in notice
    assert "Copyright (c) 2022 Leon Sorokin" in notice
