"""The emulated engine answers as the real vLLM does, but for what `differences` lists."""

import re
from functools import partial

from tests.real import cases, comparison, differences, metric_page, shapes, wire
from tests.real.load import CHAT, LONG, filled, idle, metric, page, spared
from tests.real.servers import until

GONE_S = 10.0


def test_every_answer_is_framed_and_worded_alike(vllm, emulator, record_property):
    """Status, headers, framing, events, fields and their order, the words of refusals."""
    judged = comparison.judge(vllm, emulator, cases.ALL, differences.EMULATOR)

    record_property("figure", f"{judged.alike} of {len(cases.ALL)} answers alike")
    assert judged.strange == {}, judged.told()
    assert set(differences.EMULATOR) - judged.needed == set()


def test_requests_without_the_key_are_refused_alike(vllm, emulator):
    """Only what is below /v1 asks for it."""
    for case in (cases.CHATS[0], cases.get("/v1/models"), cases.get("/health")):
        pair = [
            shapes.lines(wire.ask(server.url, case.path, case.body, method=case.method))
            for server in (vllm, emulator)
        ]
        assert pair[0] == pair[1]


def test_a_full_engine_refuses_alike(vllm, emulator):
    """Whole or streamed by 503, soon after it has as many requests as it takes; it counts them."""
    told = []
    for server in (vllm, emulator):
        with filled(server):
            pair = [
                wire.ask(server.url, CHAT, {**LONG, "stream": stream}, headers=server.headers)
                for stream in (False, True)
            ]
        told.append([shapes.lines(answer) for answer in pair])
        assert metric(server, "vllm:admission_rejections_total") > 2
        assert until(partial(idle, server), GONE_S)

    assert told[0] == told[1]
    assert told[0][0][0] == "status 503"


def test_a_closed_connection_aborts_alike(vllm, emulator):
    """Whole or streamed, the engine stops within moments, far from the answer's end."""
    for server in (vllm, emulator):
        for stream in (False, True):
            assert spared(server, server, "vllm:generation_tokens_total", stream=stream)


def test_metrics_have_the_names_types_and_labels_of_vllm(vllm, emulator, record_property):
    """All that the emulator shows, vLLM shows alike; what it lacks is listed."""
    real, emulated = metric_page.families(page(vllm)), metric_page.families(page(emulator))
    patterns = [re.compile(pattern) for pattern in differences.METRICS_MISSING]
    unlisted = [
        name
        for name in real
        if name not in emulated and not any(each.fullmatch(name) for each in patterns)
    ]

    record_property("figure", f"{len(emulated)} metrics alike")
    assert set(emulated) - set(real) == set()
    assert unlisted == []
    settings = "vllm:cache_config_info"
    assert set(emulated[settings].labels) == differences.CACHE_LABELS
    assert set(real[settings].labels) >= differences.CACHE_LABELS
    assert {name: emulated[name] for name in emulated if name != settings} == {
        name: real[name] for name in emulated if name != settings
    }
