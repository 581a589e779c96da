"""Traces from what people have: each format's rows, what is left out, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.errors import InvalidFile
from planner.traffic.formats import FORMATS, ReadingChoices
from planner.traffic.request_record import digest
from planner.traffic.trace import read_trace, write_trace
from planner.traffic.trace_import import NAMES, import_trace

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"


def written(tmp_path: Path, text: str, name: str = "given.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def imported(path: Path, **options):
    choices = {k: options.pop(k) for k in ("unit", "bytes_per_token") if k in options}
    return import_trace(path, ReadingChoices(**choices), **options)


def requests(result):
    trace = result.trace
    columns = (trace.arrival_s, trace.input_tokens, trace.output_tokens)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_azure_of_both_years(tmp_path: Path):
    """Seven digits of a second without a zone, and six with one; times begin at 0."""
    early = f"{AZURE}\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0799600,110,27\n"
    late = (
        f"{AZURE}\n2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:01:00.009930+00:00,9,7\n"
    )

    for text, second_s in ((early, 0.1), (late, 60.0)):
        result = imported(written(tmp_path, text))

        assert (result.format, result.timed) == ("azure", True)
        assert [at for at, _, _ in requests(result)] == pytest.approx([0, second_s], abs=1e-5)


def test_burstgpt_leaves_failures_out(tmp_path: Path):
    """With and without sessions; an answer of no token is a failure."""
    plain = f"{BURST}\n5,ChatGPT,472,18,490,Conversation log\n9,GPT-4,7,0,7,API log\n"
    sessions = (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,"
        "Log Type\n5,ab-1,2.5,GPT-4,472,18,490,Conversation log\n"
    )

    first = imported(written(tmp_path, plain))
    second = imported(written(tmp_path, sessions))

    assert (first.format, requests(first), first.left_out) == (
        "burstgpt", [(0, 472, 18)], {"failed": 1},
    )  # fmt: skip
    assert second.trace.key == (digest("ab-1"),)


def test_mooncake_counts_milliseconds_and_blocks(tmp_path: Path):
    """Leading blocks that an earlier prompt had are hits, if one asks for them."""
    rows = [
        {"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [1, 2, 3]},
        {"timestamp": 1500, "input_length": 1024, "output_length": 6, "hash_ids": [1, 2]},
        {"timestamp": 3000, "input_length": 1500, "output_length": 7, "hash_ids": [1, 9, 3]},
    ]
    path = written(tmp_path, lines(*rows), "trace.jsonl")

    plain, hits = imported(path), imported(path, prefix_hits=True)

    assert plain.format == "mooncake"
    assert requests(plain) == [(0, 1100, 5), (1.5, 1024, 6), (3.0, 1500, 7)]
    assert plain.trace.cached_tokens.tolist() == [0, 0, 0]
    assert hits.trace.cached_tokens.tolist() == [0, 1023, 512]


def test_traces_with_chats_count_seconds(tmp_path: Path):
    """Alibaba's have the same names, another unit and smaller blocks."""
    row = {"chat_id": 1, "timestamp": 61.5, "input_length": 40, "output_length": 5}
    rows = [row | {"timestamp": 1.5, "hash_ids": [7, 8]}, row | {"hash_ids": [7, 8]}]

    result = imported(written(tmp_path, lines(*rows), "t.jsonl"), prefix_hits=True)

    assert (result.format, result.trace.duration_s) == ("bailian", 60)
    assert result.trace.cached_tokens.tolist() == [0, 32]


def litellm(**fields):
    row = {
        "request_id": "a", "call_type": "acompletion", "api_key": "88dc", "spend": 0.1,
        "total_tokens": 30, "prompt_tokens": 20, "completion_tokens": 10, "cache_hit": "False",
        "startTime": "2025-03-01T10:00:00.500Z", "endTime": "2025-03-01T10:00:02.000Z",
        "model": "llama", "user": "", "end_user": None, "metadata": {}, "status": "success",
    }  # fmt: skip
    return row | fields


def test_litellm_rows_are_those_that_an_engine_saw(tmp_path: Path):
    """Failures, LiteLLM's own cache and embeddings are left out; hits come from the metadata."""
    usage = {"usage_object": {"prompt_tokens_details": {"cached_tokens": 16}}}
    rows = [
        litellm(metadata=usage, startTime="2025-03-01T10:00:01.500Z"),
        litellm(),
        litellm(status="failure"),
        litellm(cache_hit="True"),
        litellm(call_type="aembedding"),
        litellm(model="other"),
    ]
    flat = written(tmp_path, json.dumps(rows), "logs.json")
    wrapped = written(tmp_path, json.dumps({"data": rows, "total": 6}, indent=1), "more.json")

    for path in (flat, wrapped):
        result = imported(path, model="llama")

        assert (result.format, requests(result)) == ("litellm", [(0, 20, 10), (1, 20, 10)])
        assert result.trace.cached_tokens.tolist() == [0, 16]
        assert result.trace.key == (digest("88dc"),) * 2
        assert result.left_out == {
            "failed": 1, "answered from LiteLLM's cache": 1, "call_type aembedding": 1,
            "model other": 1,
        }  # fmt: skip


def test_litellm_as_a_table(tmp_path: Path):
    """The same rows as a database exports them, metadata as a string of JSON."""
    text = (
        "request_id,call_type,api_key,prompt_tokens,completion_tokens,startTime,endTime,metadata\n"
        'a,completion,k,20,10,2025-03-01 10:00:00.5,2025-03-01 10:00:01,"{""status"": ""ok""}"\n'
    )

    assert requests(imported(written(tmp_path, text))) == [(0, 20, 10)]


def test_servegen_and_tables_like_it(tmp_path: Path):
    """Clocks since 1970 are known by their size, in any unit."""
    for scale in (1, 1e3, 1e6, 1e9):
        rows = [
            {"timestamp": int(1.7e9 * scale), "input_tokens": 5, "output_tokens": 6},
            {"timestamp": int((1.7e9 + 2) * scale), "input_tokens": 7, "output_tokens": 8},
        ]
        result = imported(written(tmp_path, lines(*rows), "t.jsonl"))

        assert (result.format, result.trace.duration_s) == ("servegen", pytest.approx(2))


def test_a_batch_without_times_needs_a_rate(tmp_path: Path):
    """Sizes alone are a trace once somebody says how many come."""
    rows = [{"request_id": n, "input_length": 61, "output_length": 2370} for n in range(200)]
    path = written(tmp_path, lines(*rows), "trace_d.jsonl")

    with pytest.raises(InvalidFile, match=r"trace_d.jsonl:1: no times: --rate"):
        imported(path)
    result = imported(path, rate=5.0)

    assert result.trace.rate == pytest.approx(5, rel=0.3)
    assert not result.timed


@pytest.mark.parametrize("form", ["conversations", "messages"])
def test_every_answer_of_a_conversation_is_a_request(tmp_path: Path, form: str):
    """Its prompt is all that stands before it; sizes come from the length of the texts."""
    who, what = ("from", "value") if form == "conversations" else ("role", "content")
    turns = [("human", 40), ("gpt", 80), ("human", 4), ("assistant", 8), ("human", 4)]
    row = {"id": "x", form: [{who: name, what: "é" * (size // 2)} for name, size in turns]}
    path = written(tmp_path, json.dumps([row, {form: []}]), "sg.json")

    result = imported(path, rate=1.0)

    assert [size for _, *size in requests(result)] == [[10, 20], [31, 2]]
    assert (result.estimated, result.left_out) == (2, {"no answer in it": 1})
    assert [size for _, *size in requests(imported(path, rate=1.0, bytes_per_token=2))] == [
        [20, 40], [62, 4],
    ]  # fmt: skip


def test_vllm_logs_join_requests_and_answers(tmp_path: Path):
    """Token ids are counted, texts estimated, deltas summed; what is not answered is left out."""
    log = (
        "(APIServer pid=7) INFO 11-22 09:10:10 [logger.py:39] Received request a: prompt: 'hi', "
        "params: SamplingParams(n=1, max_tokens=9), prompt_token_ids: [1, 2, 3], x: None.\n"
        "INFO 11-22 09:10:11 [metrics.py:1] something else\n"
        "DEBUG 11-22 09:10:12 [logger.py:50] Request b details: prompt: None, "
        "prompt_token_ids: [1, 2, 3, 4], prompt_embeds shape: None.\n"
        "INFO 11-22 09:10:12 [logger.py:60] Received request b: params: SamplingParams(), "
        "lora_request: None.\n"
        "INFO 11-22 09:10:13 [logger.py:70] Generated response a: output: 'some words', "
        "output_token_ids: [5, 6], finish_reason: stop\n"
        "INFO 11-22 09:10:13 [logger.py:70] Generated response b (streaming delta): output: 'x', "
        "output_token_ids: [5, 6], finish_reason: None\n"
        "INFO 11-22 09:10:14 [logger.py:70] Generated response b (streaming delta): output: 'y', "
        "output_token_ids: [5], finish_reason: stop\n"
        "INFO 11-22 09:10:14 [logger.py:70] Generated response b (streaming complete): output: "
        "'xy', output_token_ids: None, finish_reason: streaming_complete\n"
        "INFO 11-22 09:10:15 [logger.py:39] Received request c: prompt: '12345678', params: "
        "SamplingParams(n=1), prompt_token_ids: None, lora_request: None.\n"
        "INFO 11-22 09:10:16 [logger.py:70] Generated response c: output: '1234', "
        "finish_reason: stop\n"
        "INFO 11-22 09:10:17 [logger.py:60] Received request d: params: SamplingParams().\n"
    )

    result = imported(written(tmp_path, log, "vllm.log"))

    assert (result.format, requests(result)) == (
        "vllm-log", [(0, 3, 2), (2, 4, 3), (5, 2, 1)],
    )  # fmt: skip
    assert result.estimated == 1
    assert list(result.left_out.values()) == [1]
    assert "VLLM_LOGGING_LEVEL=DEBUG" in next(iter(result.left_out))


def test_a_log_without_answers_says_which_flag_shows_them(tmp_path: Path):
    """Nothing is made up for the lengths of answers."""
    log = "INFO 11-22 09:10:10 [l.py:1] Received request a: prompt_token_ids: [1], x: None.\n"

    with pytest.raises(InvalidFile, match=r"no requests: 1 × no answer .*--enable-log-out"):
        imported(written(tmp_path, log, "vllm.log"))


def test_a_trace_is_read_back_as_it_was_written(tmp_path: Path):
    """Also keys and hits; columns in which nothing stands are left out."""
    text = "arrival_s,key,input_tokens,output_tokens,cached_tokens\n3,al,5,6,2\n1,,7,0,\n"
    trace = imported(written(tmp_path, text)).trace
    out = tmp_path / "out.csv"
    with out.open("w", newline="") as file:
        write_trace(trace, file)

    again = read_trace(out)

    assert again.arrival_s.tolist() == [0, 2]
    assert (again.key, again.cached_tokens.tolist()) == (("", "al"), [0, 2])
    with out.open("w", newline="") as file:
        write_trace(trace.take(np.array([0])), file)
    assert out.read_text() == "arrival_s,input_tokens,output_tokens\n0,7,0\n"


def test_the_page_names_every_format():
    """docs/traces.md has a row with each name that --from takes."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "traces.md").read_text()

    assert [name for name in NAMES if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{AZURE}\n2023-11-16 18:17:03,4808,10\nyesterday,1,1\n", ":3: TIMESTAMP is not a time"),
        (f"{AZURE}\n2023-11-16 18:17:03,-5,10\n", ":2: ContextTokens is not a whole number"),
        (f"{AZURE}\n2023-11-16 18:17:03,1.5,10\n", ":2: ContextTokens is not a whole number"),
        (f"{AZURE}\n2023-11-16 18:17:03,1,99999999999\n", ":2: GeneratedTokens is 99999999999: no"),
        (f"{AZURE}\n2023-11-16 18:17:03,1\n", ":2: 2 columns, not 3"),
        (f"{AZURE}\n2023-11-16,1,1\n1999-11-16,1,1\n", ":2: 24 years after the first request"),
        (f"{BURST}\n5,ChatGPT,472,18,9000,log\n", ":2: Total tokens is 9000, but prompt and ans"),
        (lines(litellm(endTime="2025-02-28T10:00:02Z")), ":1: endTime is .* before startTime"),
        (lines(litellm(endTime="2025-03-04T10:00:02Z")), ":1: endTime is 72 h after startTime"),
        (lines(litellm(), [1]), ":2: not an object"),
        ('{"timestamp": 1, "input_length": 1, "output_length": 1}\n{"x"\n', ":2: not JSON"),
        ("arrival_s,input_tokens,output_tokens\n" + "0.001,5,5\n" * 200, "200 requests within 0 s"),
        ("gpu,price\nH100,0\n", ":1: not a file of requests that is known .*: gpu, price"),
        ("t_s,requests_per_s\n0,212\n", ":1: rates and no requests: `cuvee portfolio"),
        ("0,1.33,8.59,Weibull,0.37,0.39\n600,0,0,,0,0\n", ":1: not a file of requests"),
        ("", "no requests"),
        (f"{AZURE}\n", "no requests"),
    ],
)
def test_what_is_not_what_it_says_is_refused(tmp_path: Path, text: str, words: str):
    """With the line and the reason."""
    with pytest.raises(InvalidFile, match=words) as caught:
        imported(written(tmp_path, text, "given.csv"))

    assert "given.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_format_that_is_named_must_fit(tmp_path: Path):
    """--from does not make a table another one."""
    with pytest.raises(InvalidFile, match=r":1: not burstgpt: it lacks Request tokens, Respon"):
        imported(written(tmp_path, f"{AZURE}\n2023-11-16,1,1\n"), name="burstgpt")


def test_files_that_are_no_text_are_refused(tmp_path: Path):
    """Binary data and absent files are InvalidFile as well."""
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1\xff\xfe")

    with pytest.raises(InvalidFile, match="not UTF-8"):
        imported(path)
    with pytest.raises(InvalidFile, match="cannot be read"):
        imported(tmp_path / "absent.csv")


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers()),
)  # fmt: skip
ROWS = st.sampled_from(FORMATS).flatmap(
    lambda kind: st.lists(
        st.fixed_dictionaries(dict.fromkeys(sorted(kind.fields), VALUES)), max_size=3
    )
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS)
def test_no_file_does_more_than_be_refused(tmp_path_factory, rows):
    """Whatever stands in the fields: a trace whose sizes are credible, or one clear error."""
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text(lines(*rows))
    try:
        trace = imported(path, rate=1.0).trace
    except InvalidFile:
        return
    assert trace.input_tokens.min() >= 1
    assert trace.input_tokens.max() <= 10**7
