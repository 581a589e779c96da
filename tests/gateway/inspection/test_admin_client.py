"""What is asked of an admin port, and what is made of its answers."""

from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from gateway.config.schema import GatewaySection
from gateway.inspection.admin_client import AdminClient, AdminFault, admin_url

BUILD = 'cuvee_build_info{version="1"} 1\n'


@asynccontextmanager
async def port(handle):
    """The URL of a server that answers with this handler."""
    application = web.Application()
    application.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_all_paths_at_once_with_a_token():
    """A path that this version does not have is left out, and is no fault."""
    heads = set()

    async def handle(request):
        heads.add(request.headers.get("authorization"))
        if request.path == "/metrics":
            return web.Response(text=BUILD)
        if request.path == "/cuvee/plan":
            return web.json_response({"plan_id": "a"})
        return web.Response(status=404)

    async with port(handle) as url:
        read = await AdminClient(url + "/", token="sesame").read(5.0)

    assert heads == {"Bearer sesame"}
    assert (read.url, read.at_s) == (url, 5.0)
    assert read.value("/cuvee/plan") == {"plan_id": "a"}
    assert read.value("/readyz") == {}
    assert read.samples.total("cuvee_build_info") == 1


@pytest.mark.parametrize(
    ("status", "text", "fault"),
    [
        (401, "", "asks for a token"),
        (403, "", "asks for a token"),
        (200, "other 1\n", "is not that of a gateway"),
        (200, "<html>", "is not that of a gateway"),
        (500, "broken", "is not that of a gateway"),
    ],
)
async def test_what_is_no_answer_of_a_gateway(status, text, fault):
    """One line says why."""

    async def handle(_):
        return web.Response(status=status, text=text)

    async with port(handle) as url:
        with pytest.raises(AdminFault, match=fault):
            await AdminClient(url).read(0.0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8790"),
        ("::", "http://127.0.0.1:8790"),
        ("::1", "http://[::1]:8790"),
        ("10.0.0.1", "http://10.0.0.1:8790"),
    ],
)
def test_the_admin_port_of_a_configuration(host, url):
    """As it is reached from this machine."""
    assert admin_url(GatewaySection(admin_host=host)) == url
