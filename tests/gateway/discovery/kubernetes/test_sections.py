"""Sources are made of sections."""

import msgspec

from gateway.config.kubernetes_schema import KubernetesSection
from gateway.discovery.kubernetes.api import ApiServer
from gateway.discovery.kubernetes.sections import KubernetesPool, kubernetes_sources


def a_pool(name, **keys):
    """A pool with a section of these keys."""
    section = msgspec.convert({"selector": "app=vllm"} | keys, KubernetesSection)
    return KubernetesPool(name, section, gpu="H100", gpus=2, model="llama", engine="vllm")


def test_pools_of_one_server_have_one_source(tmp_path):
    """In the order of the file, because a pod that two want is the first one's."""
    other = {"api_server": "https://other", "token_file": "t"}
    pools = [a_pool("b"), a_pool("x", **other), a_pool("a", selector="app=sglang")]

    first, second = kubernetes_sources(pools, tmp_path, tmp_path).values()

    assert first.pools == ("b", "a")
    assert first.name == "kubernetes default/app=vllm, default/app=sglang"
    assert second.pools == ("x",)


def test_the_same_sections_make_the_same_key(tmp_path):
    """So that a reload keeps a source that runs, and another section starts another one."""
    pools = [a_pool("a", labels={"gpu": "x"})]

    same = kubernetes_sources(pools, tmp_path, tmp_path)

    assert set(same) == set(kubernetes_sources(pools, tmp_path, tmp_path))
    for keys in (
        {"port": 1},
        {"labels": {"gpu": "y"}},
        {"nodes": True},
        {"api_server": "http://a"},
    ):
        assert set(same) != set(kubernetes_sources([a_pool("a", **keys)], tmp_path, tmp_path))


def test_the_namespace_is_that_of_the_gateways_pod(tmp_path):
    """Where none is given; outside of a cluster it is kubectl's default."""
    (tmp_path / "namespace").write_text("models")

    (own,) = kubernetes_sources([a_pool("a")], tmp_path, tmp_path).values()
    (given,) = kubernetes_sources([a_pool("a", namespace="x")], tmp_path, tmp_path).values()

    assert own.name == "kubernetes models/app=vllm"
    assert given.name == "kubernetes x/app=vllm"


def test_files_are_relative_to_the_file(tmp_path):
    """As all paths in it."""
    keys = {"api_server": "https://k", "token_file": "t", "ca_file": "c"}

    (key,) = kubernetes_sources([a_pool("a", **keys)], tmp_path)

    assert isinstance(key, tuple)
    assert ApiServer("https://k", tmp_path / "t", tmp_path / "c") in key
