"""Backends of the file and those that were found are one list by pool, each engine once."""

from gateway.config.addresses import own_ends
from gateway.config.pool_schema import PoolSection
from gateway.config.schema import GatewaySection
from gateway.discovery import join
from gateway.discovery.join import joined


def pool(model, *backends):
    return PoolSection(model=model, profile="", backends=backends)


def test_those_of_the_file_come_first():
    """A pool without a source is not among them."""
    pools = {"a": pool("m", "http://s/"), "b": pool("m", "http://t")}

    assert joined(pools, {"a": ("http://x",)}) == ({"a": ("http://s", "http://x")}, ())


def test_an_engine_counts_once_for_one_model_however_it_is_spelled():
    """In the file, twice found, or in another pool of the model; another model may share it."""
    pools = {"a": pool("m", "http://s"), "b": pool("m"), "c": pool("n")}
    found = {"b": ("http://S:80/", "http://x", "http://x:80"), "c": ("http://x",)}

    urls, remarks = joined(pools, found)

    assert urls == {"b": ("http://x",), "c": ("http://x",)}
    assert remarks == (
        "pool b: http://S:80/ is in pool a already: it is used once",
        "pool b: http://x:80 is there twice: it is used once",
    )


def test_the_gateway_itself_is_no_backend_of_it():
    """By any name of this machine; another port of it may be an engine."""
    found = {"a": ("http://localhost:8000", "http://10.0.0.1:8000", "http://127.0.0.1:8001")}
    gateway = GatewaySection(host="127.0.0.1", port=8000, admin_port=0)

    urls, remarks = joined({"a": pool("m")}, found, own_ends(gateway))

    assert urls == {"a": ("http://10.0.0.1:8000", "http://127.0.0.1:8001")}
    assert remarks == ("pool a: http://localhost:8000 is this gateway itself: it is not used",)


def test_more_than_a_gateway_takes_are_left_out_and_told():
    """The bound holds over all pools together."""
    found = {name: tuple(f"http://{name}{n}" for n in range(join.MOST)) for name in "ab"}

    urls, remarks = joined({"a": pool("m", "http://s"), "b": pool("m")}, found)

    assert len(urls["a"]) == join.MOST
    assert urls["b"] == ()
    assert remarks == (
        f"pool a: 1 backends are too many: at most {join.MOST} in all",
        f"pool b: {join.MOST} backends are too many: at most {join.MOST} in all",
    )
