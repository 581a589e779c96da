"""How engines are spoken to: what is accepted, what is told, and that keys stay secret."""

import subprocess

import pytest
import yaml

from gateway.config.change import change
from gateway.config.load import load
from gateway.config.serving import serving
from gateway.errors import ConfigError

POOL = {
    "model": "m", "profile": "llama-3-8b/H100", "usd_per_hour": 1.0, "backends": ["https://h:1"],
}  # fmt: skip


@pytest.fixture
def made(tmp_path):
    """Loads one pool with these keys, and one model with those."""

    def make(model=None, environ=None, **pool):
        slo = {"slo": {"ttft_s": 1.0, "tpot_s": 0.1}} | (model or {})
        raw = {"models": {"m": slo, "n": {"slo": slo["slo"]}}, "pools": {"p": POOL | pool}}
        raw["pools"]["q"] = POOL | {"model": "n", "backends": ["http://h:2"]}
        path = tmp_path / "cuvee.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False))
        return load(path, environ=environ or {})

    return make


def problems(made, **keys):
    """The problems of a file, without its name and lines."""
    with pytest.raises(ConfigError) as refused:
        made(**keys)
    return [line.partition(": ")[2] for line in refused.value.problems]


def test_every_name_reaches_the_engine_under_its_own(made):
    """Aliases are the model's served name; adapters have names of their own."""
    model = {"aliases": ["a"], "adapters": ["x", "y"]}

    loaded = made(model, served_name="s", adapters={"x": None, "y": "y2"})

    assert loaded.upstreams["p"].names == {"m": "s", "a": "s", "x": "x", "y": "y2"}
    assert made(model).upstreams["p"].names == {"m": "m", "a": "m", "x": "x", "y": "y"}
    assert made(model, adapters={"x": None, "y": None}).upstreams["q"].names == {"n": "n"}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"model": {"aliases": ["n"]}}, "models.m.aliases[0]: `n` is models.n already"),
        ({"model": {"adapters": ["m"]}}, "models.m.adapters[0]: `m` is models.m already"),
        ({"model": {"aliases": [" a"]}},
         "models.m.aliases[0]: the name must be printable, without blanks around it"),
        ({"adapters": {"x": None}}, "pools.p.adapters.x: models.m.adapters does not have it"),
        ({"model": {"adapters": ["x"]}, "adapters": {}}, "models.m.adapters[0]: no pool has it"),
        ({"served_name": ""},
         "pools.p.served_name: the name must be printable, without blanks around it"),
        ({"api_key_env": "KEY"}, "pools.p.api_key_env: the variable KEY has no value"),
        ({"api_key_env": "KEY", "api_key_file": "k"},
         "pools.p.api_key_file: api_key_env is there too: one of the two"),
        ({"headers": {"Host": "x"}},
         "pools.p.headers.Host: the gateway writes this header itself"),
        ({"headers": {"x-a": "1", "X-A": "2"}},
         "pools.p.headers.X-A: stands twice: names of headers have no case"),
        ({"headers": {"Authorization": "x"}, "forward_authorization": True},
         "pools.p.headers.Authorization: forward_authorization sends that of the client"),
        ({"client_cert_file": "c"}, "pools.p.client_cert_file: client_key_file is missing"),
        ({"client_key_file": "c"}, "pools.p.client_key_file: client_cert_file is missing"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line(made, keys, told):
    """With its key."""
    assert problems(made, **keys) == [told]


@pytest.mark.parametrize("value", ["a\r\nx: y", "é", " a", ""])
def test_a_header_is_printable_ascii(made, value):
    """No value can begin another line of a request."""
    [line] = problems(made, headers={"x-a": value})

    assert line.startswith("pools.p.headers")


@pytest.mark.parametrize("key", ["", "two\nlines", "é", "a\x00b"])
def test_a_key_is_one_line(made, tmp_path, key):
    """As a header can hold it; the message does not hold the key."""
    (tmp_path / "key").write_text(key)

    assert problems(made, api_key_file="key") == [
        "pools.p.api_key_file: a key must be one line of printable ASCII"
    ]


def test_files_that_are_missing_or_wrong_are_told(made, tmp_path):
    """At the start, and not at the first request."""
    (tmp_path / "ca.pem").write_text("no certificate")

    assert "cannot be read: No such file" in problems(made, api_key_file="gone")[0]
    assert "cannot be used" in problems(made, ca_file="ca.pem")[0]


def test_certificates_without_https_are_a_warning(made, tmp_path):
    """They would protect nothing."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=a -keyout k -out c"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)

    loaded = made(ca_file="c", backends=["http://h:1"])

    assert "pools.p.ca_file: no backend has an https URL" in loaded.warnings[0]
    assert made(ca_file="c", client_cert_file="c", client_key_file="k").warnings == ()


def test_engines_found_by_name_show_certificates_for_it(made):
    """Unless the pool says for which name; a pool of URLs goes by their hosts."""
    dns = {"dns": {"name": "vllm.svc.", "port": 8000, "scheme": "https"}}

    names = [
        loaded.upstreams["p"].tls and loaded.upstreams["p"].tls.server_name
        for loaded in (made(), made(discover=dns), made(discover=dns, tls_server_name="a.test"))
    ]

    assert names == [None, "vllm.svc", "a.test"]


def test_a_key_is_shown_nowhere(made):
    """Not by the values that hold it, which logs and errors may show."""
    loaded = made(api_key_env="KEY", environ={"KEY": "secret"})

    assert loaded.upstreams["p"].headers == (("authorization", "Bearer secret"),)
    assert "secret" not in f"{loaded!r} {serving(loaded)!r}"


def test_a_new_key_in_the_same_file_is_a_change(made, tmp_path):
    """The file is watched, and the change is named."""
    (tmp_path / "key").write_text("one")
    before = made(api_key_file="key")
    (tmp_path / "key").write_text("two")
    after = made(api_key_file="key")

    assert tmp_path / "key" in before.files
    assert change(before, after).keys == ("pools.p.api_key_file",)


def test_clients_cannot_set_what_a_pool_adds(made):
    """Their header of that name reaches no backend."""
    config = serving(made(headers={"X-Tenant": "a"}))

    assert "x-tenant" in config.gateway.withheld_headers
