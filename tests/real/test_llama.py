"""A gateway before a real llama.cpp, whose engine it is not told: what passes through, what is
refused, what is counted."""

import json
from functools import partial

from tests.real import cases, comparison, differences, wire
from tests.real.load import CHAT, LONG, metric, spared
from tests.real.servers import Running, until

SOON_S = 15.0


def _counted(gateway: Running, tokens: float) -> bool:
    return metric(gateway, "cuvee_tokens_total") == tokens


def test_every_answer_passes_through(llama, llama_gateway, record_property):
    """Texts, numbers, fields, events and refusals are the engine's, but for what is listed."""
    judged = comparison.judge(llama, llama_gateway, cases.ALL, differences.LLAMA, exact=True)

    record_property("figure", f"{len(cases.ALL)} requests, {len(judged.strange)} unlisted")
    assert judged.strange == {}, judged.told()
    assert set(differences.LLAMA) - judged.needed == set()


def test_its_context_is_learned(llama_gateway):
    """llama.cpp says it in words of its own."""
    (entry,) = json.loads(wire.ask(llama_gateway.url, "/v1/models", method="GET").body)["data"]

    assert entry["max_model_len"] == cases.CONTEXT


def test_tokens_are_counted_as_the_engine_counts_them(llama_gateway):
    """Whole and streamed."""
    for case in (cases.CHATS[0], cases.CHATS[1], cases.TEXTS[0], cases.TEXTS[1]):
        before = metric(llama_gateway, "cuvee_tokens_total")
        answer = comparison.ask(llama_gateway, case)
        assert answer.status == 200
        counted = cases.CHATS[0] if case in cases.CHATS else cases.TEXTS[0]
        usage = json.loads(comparison.ask(llama_gateway, counted).body)["usage"]
        wanted = before + 2 * usage["total_tokens"]
        assert until(partial(_counted, llama_gateway, wanted), SOON_S)


def test_a_client_that_leaves_frees_the_engine(llama, llama_gateway):
    """It makes no more of the answer."""
    assert spared(llama_gateway, llama, "llamacpp:tokens_predicted_total", stream=True)


def test_streams_run_beside_each_other(llama_gateway):
    """Four slots, four whole answers."""
    pairs = [wire.request(llama_gateway.url, CHAT, {**LONG, "max_tokens": 40}) for _ in range(4)]
    answers = [wire.read(connection) for connection in pairs]
    for connection in pairs:
        connection.close()

    assert [answer.events[-1][1] for answer in answers] == ["[DONE]"] * 4
