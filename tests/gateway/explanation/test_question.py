"""A question is read as the data port would read the request."""

import msgspec
import pytest

from gateway.config.schema import GatewaySection
from gateway.config.serving import ServedModel, ServingConfig
from gateway.config.upstream import Upstream
from gateway.errors import BadRequest, ClassNotFound, ModelNotFound, NotFound
from gateway.explanation.question import ExplainQuestion, decoded, read
from gateway.routing.estimator import Estimator

MODEL = "llama-3-8b"
CHAT = {"model": "chat", "messages": [{"role": "user", "content": "How do you do?"}]}


@pytest.fixture
def config(pools):
    names = tuple(pool.name for pool in pools)
    model = ServedModel(
        name=MODEL, max_model_len=8192, bytes_per_token=4.0, pools=names, aliases=("chat",)
    )
    upstreams = {name: Upstream(names={}) for name in names}
    return ServingConfig(gateway=GatewaySection(), models=(model,), upstreams=upstreams)


@pytest.fixture
def ask(config, table):
    def make(body, **fields):
        raw = msgspec.Raw(msgspec.json.encode(body))
        question = ExplainQuestion(body=raw, **fields)
        return read(question, config, table, Estimator({MODEL: 4.0}))

    return make


def test_the_endpoint_is_that_of_the_fields(ask):
    """Unless it is named; an alias is the model's name."""
    assert ask(CHAT).request.endpoint.name == "chat"
    assert ask({"model": MODEL, "prompt": "Once"}).request.endpoint.name == "completions"
    found = ask({"model": MODEL, "input": "Once"}, endpoint="/v1/embeddings")
    assert (found.request.endpoint.name, found.estimate.output_tokens) == ("embeddings", 1)
    assert ask(CHAT).estimate.model == MODEL
    with pytest.raises(BadRequest, match="name the endpoint"):
        ask({"model": MODEL, "input": "Once"})


def test_what_the_data_port_refuses_is_refused(ask):
    with pytest.raises(ModelNotFound):
        ask(CHAT | {"model": "other"})
    with pytest.raises(ClassNotFound):
        ask(CHAT, slo_class="gold")
    with pytest.raises(NotFound):
        ask(CHAT, endpoint="/v1/nothing")
    with pytest.raises(BadRequest):
        ask(CHAT | {"model": 7})


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"body":{},"request_id":"a"}', b'{"body":{},"what":1}', b"\xff{"]
)
def test_a_question_that_is_none_is_refused(text):
    with pytest.raises(BadRequest):
        decoded(text)
