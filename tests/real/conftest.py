"""A real vLLM, a real llama.cpp, an emulated engine, and gateways before the real ones: one of each
for all tests."""

from collections.abc import Iterator

import pytest

from tests.real import servers
from tests.real.environments import NotInstalled
from tests.real.servers import Running

FOUND = "backends.yaml"  # what the gateway finds its engine in


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="session")
def vllm(folder) -> Iterator[Running]:
    """A vLLM on the CPU, with a key, a bounded queue and events of its cache."""
    try:
        with servers.vllm(folder) as running:
            yield running
    except NotInstalled as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def llama(folder) -> Iterator[Running]:
    """A llama.cpp with four slots."""
    try:
        with servers.llama(folder) as running:
            yield running
    except NotInstalled as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def emulator(folder) -> Iterator[Running]:
    """An emulated engine with the options of the real vLLM."""
    with servers.emulator(folder) as running:
        yield running


@pytest.fixture(scope="session")
def gateway(tmp_path_factory, vllm) -> Iterator[Running]:
    """A gateway that finds the real vLLM in a file."""
    own = tmp_path_factory.mktemp("gateway")
    (own / FOUND).write_text(f"[{vllm.url}]")
    pool = (
        f"engine: vllm\napi_key_env: REAL_KEY\ndiscover: {{file: {FOUND}}}\n"
        f"kv_events: {{endpoint: 'tcp://127.0.0.1:{vllm.events_port}'}}"
    )
    with servers.gateway(own, pool) as running:
        yield running


@pytest.fixture(scope="session")
def llama_gateway(tmp_path_factory, llama) -> Iterator[Running]:
    """A gateway before the real llama.cpp, whose engine it is not told."""
    with servers.gateway(
        tmp_path_factory.mktemp("gateway"), f"backends: ['{llama.url}']"
    ) as running:
        yield running
