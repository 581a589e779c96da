"""The page on the admin port over real sockets: what it is told, and what is seen in Chromium."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, web

from gateway.app import App
from gateway.config.load import load
from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile
from tests.chromium import CHROMIUM, BrowserPage, Chromium

ROOT = Path(__file__).resolve().parents[1]
MODEL, KEY, WORDS = "llama-3-8b", "sk-planted-key", "planted words of a prompt"
VIEWS = ("now", "sizes", "plan", "history", "requests", "backends", "bill")
WAIT_S = 20.0
TAB = 9

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


class Site:
    """A running gateway with two emulated engines."""

    def __init__(self, app: App, session: ClientSession) -> None:
        self.app, self.session = app, session

    async def chat(self, tokens: int = 4, slo_class: str = "default", **fields: Any) -> int:
        """Send a request and read its answer; the status."""
        body = {
            "model": MODEL, "messages": [{"role": "user", "content": WORDS}], "stream": True,
            "vllm_xargs": {"output_tokens": tokens},
        } | fields  # fmt: skip
        headers = {"authorization": f"Bearer {KEY}", "x-cuvee-slo-class": slo_class}
        url = f"http://127.0.0.1:{self.app.port}/v1/chat/completions"
        async with self.session.post(url, json=body, headers=headers) as reply:
            await reply.read()
            return reply.status

    async def view(self, name: str) -> Any:
        async with self.session.get(f"{self.app.admin}/cuvee/view/{name}") as reply:
            assert reply.status == 200, name
            return json.loads(await reply.read())

    async def until(self, name: str, condition: Any) -> Any:
        """A view as soon as it is so."""
        async with asyncio.timeout(WAIT_S):
            while True:
                told = await self.view(name)
                if condition(told):
                    return told
                await asyncio.sleep(0.1)


@asynccontextmanager
async def site(folder: Path, **gateway: Any) -> AsyncIterator[Site]:
    """Two pools of one backend each, two classes."""
    async with AsyncExitStack() as stack:
        raw: dict[str, Any] = {
            "models": {
                MODEL: {
                    "slo": {"ttft_s": 2.0, "tpot_s": 0.2},
                    "classes": {"batch": {"ttft_s": 20, "tpot_s": 0.4, "attainment": 0.95}},
                }
            },
            "prices": "aws-2026-07",
            "pools": {},
            "planner": {"certify_cpu_s": 0, "interval_s": 5.0},
            "gateway": {
                "host": "127.0.0.1", "port": 0, "admin_port": 0, "drain_s": 1.0,
                "drain_delay_s": 0, "warmup_s": 0, "scrape_interval_s": 0.5,
            } | gateway,
        }  # fmt: skip
        for gpu in ("A10G", "H100"):
            emulator = Emulator(find_profile(f"{MODEL}/{gpu}", ROOT), MODEL)
            port = await emulator.start()
            stack.push_async_callback(emulator.stop)
            raw["pools"][gpu.lower()] = {
                "model": MODEL, "profile": f"{MODEL}/{gpu}",
                "backends": [f"http://127.0.0.1:{port}"],
            }  # fmt: skip
        path = folder / "cuvee.yaml"
        path.write_text(yaml.safe_dump(raw))
        app = await stack.enter_async_context(App(load(path), path=path))
        yield Site(app, await stack.enter_async_context(ClientSession()))


async def events(site: Site, number: int) -> list[tuple[str, Any]]:
    """The first events of a new page."""
    found: list[tuple[str, Any]] = []
    headers = {"accept": "text/event-stream"}
    async with site.session.get(f"{site.app.admin}/cuvee/events", headers=headers) as reply:
        assert reply.content_type == "text/event-stream"
        held = b""
        async with asyncio.timeout(WAIT_S):
            while len(found) < number:
                held += await reply.content.readany()
                *whole, held = held.split(b"\n\n")
                for text in whole:
                    event = re.fullmatch(rb"event: (\w+)\ndata: (.*)", text)
                    assert event is not None
                    found.append((event[1].decode(), json.loads(event[2])))
    return found


async def test_all_views_agree_on_what_happened(tmp_path):
    """Each figure stands where it belongs, and neither a key nor a prompt stands anywhere."""
    async with site(tmp_path) as here:
        for slo_class in ("default", "batch", "default"):
            assert await here.chat(slo_class=slo_class) == 200
        assert await here.chat(model="nothing") == 404

        def counted(told: Any) -> bool:
            requests = sum(one["requests"] for one in told["classes"])
            return bool(requests == 3 and told["refusals"])

        now = await here.until("now", counted)
        views = {name: await here.view(name) for name in VIEWS}

    classes = {one["name"]: one for one in now["classes"]}
    assert classes[f"{MODEL} · default"]["kept"] == 2
    assert classes[f"{MODEL} · batch"]["attainment"] == 1.0
    assert now["refusals"] == {"404 model_not_found": 1}
    assert sum(pool["real_share"] for pool in now["pools"]) == pytest.approx(1.0, abs=0.001)
    assert {pool["gpu"] for pool in now["pools"]} == {"A10G", "H100"}
    assert now["status"] == "ready"
    assert now["dollars"]["running"] == pytest.approx(1.006 + 6.88, abs=0.01)
    assert views["plan"]["plan_id"] == views["sizes"]["plan_id"] == now["plan"]["id"]
    assert [one["state"] for one in views["backends"]["backends"]] == ["serving", "serving"]
    assert views["history"]["decisions"][-1]["kind"] == "start"
    [model] = views["bill"]["models"]
    assert (model["name"], model["requests"]) == (MODEL, 3)
    last = views["requests"]["last"]
    assert [one["class"] for one in last] == ["default", "batch", "default"]
    assert {one["met"] for one in last} == {"yes"}
    assert dict(last[0]["words"])["Promise"].startswith("class default")
    assert sum(row[5] for row in views["sizes"]["cells"]) == 3
    everything = json.dumps([now, views])
    assert KEY not in everything
    assert WORDS not in everything


@pytest.mark.long
async def test_a_new_page_gets_the_last_hour_and_then_what_is_new(tmp_path):
    """In one stream; and the figures of a second are made once."""
    async with site(tmp_path) as here:
        told = await events(here, 4)
        page = here.app._insight.page
        assert page.opening() == page.opening()
        again = page._now()
        assert page._now() is not again
        assert page._made["now"][1] in again

    assert [name for name, _ in told][:2] == ["series", "now"]
    assert {name for name, _ in told[2:]} <= {"now", "sample"}
    assert told[0][1]["rows"] == []
    assert told[1][1]["at_s"] < told[3][1]["at_s"]


async def test_the_page_is_on_the_admin_port_only(tmp_path):
    """Also where the data port answers operators' paths: it shows single requests of others, and
    a stream has no end to wait for."""
    found = {}
    async with site(tmp_path, operator_paths="both") as here:
        for path in ("", "cuvee/events", "cuvee/view/requests", "cuvee/history"):
            url = f"http://127.0.0.1:{here.app.port}/{path}"
            async with here.session.get(url) as reply:
                found[path] = reply.status

    assert list(found.values()) == [404, 404, 404, 200], found


@pytest.mark.long
async def test_workers_are_counted_together(tmp_path):
    """Figures are of all processes."""
    async with site(tmp_path, workers=2) as here:
        for _ in range(8):
            assert await here.chat() == 200
        now = await here.until("now", lambda told: told["classes"][0]["requests"] == 8)
        told = await here.until("requests", lambda told: len(told["last"]) == 8)

    assert now["workers"] == 2
    assert len({one["id"] for one in told["last"]}) == 8


def labels(page: BrowserPage) -> list[str]:
    found: list[str] = page.value(
        "[...document.querySelectorAll('.view caption')].map((one) => one.textContent)"
    )
    return found


@pytest.mark.long
@needs_chromium
async def test_what_is_seen(tmp_path):
    """Every view shows its figures, by mouse and by keyboard, light and dark, on a phone too."""
    async with site(tmp_path) as here:
        for _ in range(3):
            assert await here.chat(tokens=12) == 200
        await here.until("now", lambda told: told["classes"][0]["requests"] == 3)
        await asyncio.to_thread(look, tmp_path, here.app.admin)


def look(folder: Path, admin: str) -> None:
    with Chromium(folder) as browser:
        page = browser.page(f"{admin}/")
        page.seen("document.querySelector('.view.now table')")
        text = page.value("document.body.innerText")
        for words in ("Promise kept", "Best single type", "a10g", "h100", "1 serving", "Loops"):
            assert words in text
        assert page.seen("document.querySelector('.chart canvas')")
        views(page)
        keyboard(page)
        themes(page)
        assert page.mistakes == []
        hosts = {url.split("/")[2] for url in page.asked if url.startswith("http")}
        assert hosts == {admin.split("/")[2]}
        phone(browser, admin)


def views(page: BrowserPage) -> None:
    """Each has its heading, and a table behind every picture."""
    names = page.value("[...document.querySelectorAll('nav a')].map((one) => one.hash.slice(1))")
    assert set(names) == set(VIEWS)
    for name in (*names[1:], names[0]):
        page.value(f"document.querySelector('nav a[href=\"#{name}\"]').click()")
        page.seen(f"document.querySelector('.view.{name} table, .view.{name} ol')")
        title = page.value("document.querySelector('h1').textContent")
        assert page.value("document.title").startswith(title)
        assert page.value("document.querySelector('nav [aria-current]').textContent") == title
        assert page.value("document.activeElement.tagName") == "H1"
    page.value("location.hash = '#sizes'")
    page.seen("document.querySelector('.view.sizes button.field')")
    page.value("document.querySelector('button.field').click()")
    page.seen("document.querySelector('button.field[aria-pressed=true]')")
    assert any(one.startswith("Shares of this bucket") for one in labels(page))
    page.value("location.hash = '#requests'")
    page.seen("document.querySelector('table.requests button')")
    page.value("document.querySelector('table.requests button').click()")
    page.seen("document.querySelector('table.requests .words')")
    assert "the promise was kept" in page.value("document.querySelector('.words').textContent")
    page.value("location.hash = '#backends'")
    page.seen("document.querySelector('.view.backends tbody tr')")
    assert page.value("document.querySelectorAll('.view.backends tbody tr').length") == 2
    page.value("location.hash = '#now'")
    page.seen("document.querySelector('.view.now .chart')")
    for chart in page.value("[...document.querySelectorAll('.chart')].map((c) => c.dataset.chart)"):
        assert any(label.startswith(chart) for label in labels(page)), chart


def keyboard(page: BrowserPage) -> None:
    """The first stop skips the head; views are links; what is open stays open."""
    page.value("window.old = true")
    page.ask("Page.reload")
    page.seen("!window.old && document.querySelector('.view.now table')")
    page.key("Tab", TAB)
    assert page.value("document.activeElement.className") == "skip"
    page.key("Enter", 13)
    assert page.value("document.activeElement.id") == "main"
    page.value("document.querySelector('details.behind').open = true")
    before = page.value("document.querySelector('[data-key=\"In flight\"] strong').textContent")
    assert before is not None
    page.value("window.seen = performance.now()")
    page.seen("performance.getEntriesByType('resource').length && performance.now() - seen > 2500")
    assert page.value("document.querySelector('details.behind').open")


def themes(page: BrowserPage) -> None:
    back = "getComputedStyle(document.body).backgroundColor"
    light = page.value(back)
    page.value("document.getElementById('theme').click()")
    assert page.value(back) != light
    assert page.value("document.documentElement.dataset.theme") == "dark"
    page.value("window.old = true")
    page.ask("Page.reload")
    page.seen("!window.old && document.querySelector('.view.now table')")
    assert page.value(back) != light
    page.value("document.getElementById('theme').click()")
    assert page.value(back) == light


def phone(browser: Chromium, admin: str) -> None:
    """Nothing is wider than the screen, but what scrolls by itself."""
    page = browser.page(f"{admin}/", width=390, height=844, phone=True)
    for name in VIEWS:
        page.value(f"location.hash = '#{name}'")
        page.seen(f"document.querySelector('.view.{name} table, .view.{name} ol')")
        assert page.value("document.documentElement.scrollWidth") <= 390, name


@pytest.mark.long
@needs_chromium
async def test_a_page_outlives_its_gateway(tmp_path):
    """It says that what it shows is old, and goes on with the next gateway on the port."""
    async with site(tmp_path) as first:
        port = int(first.app.admin.rsplit(":", 1)[1])
        with Chromium(tmp_path) as browser:
            page = await asyncio.to_thread(browser.page, f"{first.app.admin}/")
            await asyncio.to_thread(page.seen, "document.querySelector('.view.now table')")
            await first.app.__aexit__()
            await asyncio.to_thread(page.seen, "document.querySelector('.banner')")
            (tmp_path / "next").mkdir()
            async with site(tmp_path / "next", admin_port=port):
                await asyncio.to_thread(
                    page.seen,
                    "!document.querySelector('.banner') && document.querySelector('.pill.good')",
                )


@asynccontextmanager
async def guarded(site: Site, token: str) -> AsyncIterator[str]:
    """The URL of a way to the admin port on which figures need a token, and files do not."""

    async def serve(request: web.Request) -> web.StreamResponse:
        wanted = f"Bearer {token}"
        if request.path.startswith("/cuvee/") and request.headers.get("authorization") != wanted:
            return web.Response(status=401)
        headers = {"accept": request.headers.get("accept", "*/*")}
        url = site.app.admin + request.path
        async with site.session.get(url, headers=headers) as reply:
            answer = web.StreamResponse(status=reply.status)
            answer.content_type = reply.content_type
            await answer.prepare(request)
            async for piece in reply.content.iter_any():
                await answer.write(piece)
            return answer

    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.long
@needs_chromium
async def test_a_page_asks_for_the_token_of_the_admin_port(tmp_path):
    """Where it wants one; says that one is refused, takes the last that was entered, also while
    another is tried, and keeps it for this tab."""

    def enter(url: str) -> None:
        with Chromium(tmp_path) as browser:
            page = browser.page(f"{url}/")
            page.seen("document.querySelector('form.lock')")
            assert not page.value("Boolean(document.querySelector('form.lock [role=alert]'))")
            for tokens in (("wrong",), ("worse", "right")):
                for token in tokens:
                    page.value(f"document.getElementById('token').value = '{token}'")
                    page.value("document.querySelector('form.lock button').click()")
                if "right" not in tokens:
                    page.seen("document.querySelector('form.lock [role=alert]')")
            page.seen("document.querySelector('.view.now table')")
            page.value("location.hash = '#bill'")
            page.seen("document.querySelector('.view.bill table')")
            page.value("window.old = true")
            page.ask("Page.reload")
            page.seen("!window.old && document.querySelector('.view.bill table')")

    async with site(tmp_path) as here, guarded(here, "right") as url:
        await asyncio.to_thread(enter, url)
