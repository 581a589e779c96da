"""What is wrong with a section about Kubernetes is said, with its key and line."""

from pathlib import Path

import msgspec
import pytest

from gateway.config.findings import Findings
from gateway.config.kubernetes import check_kubernetes
from gateway.config.kubernetes_schema import KubernetesSection
from planner.document import Document

KEY = "pools.a.discover.kubernetes"


def findings(root: Path = Path(), **keys) -> Findings:
    """What is found wrong with a section of these keys."""
    found = Findings(Path("c.yaml"), Document({}, {}))
    check_kubernetes(KEY, msgspec.convert(keys, KubernetesSection), root, found)
    return found


@pytest.mark.parametrize(
    "keys",
    [
        {"selector": "app=vllm"},
        {"selector": "app==vllm, tier != test,!canary,llm-d.ai/role in (decode, both),gpu"},
        {"selector": "env notin (dev,test)", "namespace": "models", "port": "http"},
        {"service": "vllm", "port": 8000},
        {"inference_pool": "llama.v1", "gpu": "ignore"},
        {"selector": "a=b", "labels": {"gpu": "example.com/gpu"}, "nodes": True},
        {"selector": "a=b", "api_server": "http://127.0.0.1:8001/prefix"},
    ],
    ids=str,
)
def test_what_kubectl_takes_is_right(keys):
    """Selectors of all forms, names, ports."""
    found = findings(**keys)

    assert found.problems == found.warnings == ()


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({}, "needs one of selector, service, inference_pool, and has none"),
        (
            {"selector": "a=b", "service": "c"},
            "needs one of selector, service, inference_pool, and has selector and service",
        ),
        ({"selector": ""}, ".selector: this is no label selector"),
        ({"selector": "app=vllm,"}, ".selector: this is no label selector"),
        ({"selector": "app in vllm"}, ".selector: this is no label selector"),
        ({"service": "a/b"}, ".service: this is no name of an object"),
        ({"inference_pool": "A"}, ".inference_pool: this is no name of an object"),
        ({"selector": "a", "namespace": "a b"}, ".namespace: this is no namespace"),
        ({"selector": "a", "port": 0}, ".port: must be between 1 and 65535, or a name"),
        ({"selector": "a", "port": "8000"}, ".port: this is no name of a port"),
        ({"selector": "a", "labels": {"gpu": "a b"}}, ".labels.gpu: this is no label"),
        ({"selector": "a", "api_server": "k8s:6443"}, ".api_server: must be a URL"),
        ({"selector": "a", "token_file": "t"}, ".token_file: needs `api_server`"),
        (
            {"selector": "a", "api_server": "https://k8s", "ca_file": "none.pem"},
            ".ca_file: no such file",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_followed_is_told(keys, problem):
    """Before the gateway starts, not when it asks."""
    (line,) = findings(**keys).problems

    assert line.startswith(f"c.yaml: {KEY}")
    assert problem in line


def test_what_hardly_anybody_wants_is_a_warning(tmp_path):
    """A token without TLS, and keys without effect."""
    (tmp_path / "t").write_text("secret")
    server = {"api_server": "http://k8s", "token_file": "t"}

    assert "unprotected" in findings(tmp_path, selector="a", **server).warnings[0]
    assert "no effect" in findings(selector="a", gpu="ignore", nodes=True).warnings[0]
