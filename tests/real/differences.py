"""What may differ between a real engine and what stands in for it or before it, each with the
reason. A difference that is in no table fails a test, and so does a row that nothing needs."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Difference:
    """One row. cases: the names of cases, with `*`; several are parted by `|`. lines: what the
    lines of `shapes.difference` are, as a regular expression."""

    cases: str
    lines: str
    reason: str

    def covers(self, case: str, line: str) -> bool:
        named = any(fnmatchcase(case, each.strip()) for each in self.cases.split("|"))
        return named and re.fullmatch(self.lines, line) is not None


@dataclass(slots=True)
class Judged:
    """What a comparison found: lines that no row explains, by case; how many cases were alike; and
    the rows that were needed."""

    strange: dict[str, list[str]] = field(default_factory=dict)
    alike: int = 0
    needed: set[Difference] = field(default_factory=set)

    def look(self, case: str, lines: Iterable[str], table: Sequence[Difference]) -> None:
        """Judge the differences of one case."""
        lines = list(lines)
        self.alike += not lines
        for line in lines:
            row = next((row for row in table if row.covers(case, line)), None)
            if row is None:
                self.strange.setdefault(case, []).append(line)
            else:
                self.needed.add(row)

    def told(self) -> str:
        """What is strange, as a text."""
        found = [f"{case}\n" + "\n".join(f"    {line}" for line in lines)
                 for case, lines in self.strange.items()]  # fmt: skip
        return "\n".join(found)


ANY = r"[-+] .*"
ERROR = r"[-+] body\.(type|detail|error\.\w+): .*"
WORDS = r"[-+] body\.error\.message: .*"
UNKNOWN = (
    "chat unknown model* | completion unknown model | response unknown model | *ize unknown model"
)
OWN = (
    "chat max_tokens a word | chat max_tokens 4.5 | chat model a number | chat stream a word | "
    "completion stream_options a word | raw cut off | raw empty | raw list"
)
# Of an emulated engine (`+`) to vLLM (`-`).
EMULATOR: tuple[Difference, ...] = (
    Difference(
        "chat response_format a word | chat response_format unknown | chat schema of no object",
        WORDS,
        "vLLM lists one error for each kind that the field may be of, the emulator the first; "
        "status, type, param and code are the same",
    ),
    Difference(
        "response previous unknown",
        ANY,
        "neither keeps responses, but the emulator takes any id: so that can be tried how the "
        "gateway finds the engine that made one",
    ),
    Difference(
        "get /v1/models",
        r"[-+] body\.data\[\]\.root: .*",
        "the folder of the model; the emulator has none",
    ),
)
# Metrics that the emulator does not show.
FRONT_END = "of the Python process and its web framework: nothing in Cuvée reads them"
ESTIMATED = "estimates of FLOPs and bytes, 0 on a CPU: nothing in Cuvée reads them"
UNREAD = "no planner, router or page reads it"
METRICS_MISSING = {
    r"python_\w+|process_\w+|http_\w+": FRONT_END,
    r"vllm:estimated_\w+": ESTIMATED,
    "vllm:iteration_tokens_total|vllm:request_num_preemptions": UNREAD,
    "vllm:tool_call_parser_invocations_total|vllm:prompt_tokens_cached_by_source_total": UNREAD,
}
# Labels of `vllm:cache_config_info` that the emulator has; vLLM's has one for each setting.
CACHE_LABELS = {
    "block_size", "enable_prefix_caching", "engine", "gpu_memory_utilization",
    "kv_cache_max_concurrency", "kv_cache_size_tokens", "num_gpu_blocks",
}  # fmt: skip
# Of a gateway (`+`) to the vLLM behind it (`-`).
GATEWAY: tuple[Difference, ...] = (
    Difference("*", "- header server: .*", "the gateway does not say what is behind it"),
    Difference(
        "*",
        "- header vary: Origin",
        "of vLLM's CORS; an error is an answer of the gateway, which has CORS of its own",
    ),
    Difference(
        UNKNOWN,
        ERROR,
        "a model that is not configured is refused by the gateway, with OpenAI's `code`",
    ),
    Difference(
        OWN,
        ERROR,
        "a body of which the gateway cannot read what it needs is refused by the gateway: the same "
        "status, its own words",
    ),
    Difference("message *", ERROR, "errors of Messages have Anthropic's shape, whoever refuses"),
    Difference("count_tokens nothing", ERROR, "the same"),
    Difference(
        "embeddings | raw bad UTF-8",
        ERROR,
        "the web framework's `detail` becomes an OpenAI error object",
    ),
    Difference(
        "get /v1/models | get /v1/models/tiny | get /health | get /ping | get /version",
        ANY,
        "the gateway answers for itself: it is asked about all engines together",
    ),
    Difference(
        "get /load | get /is_sleeping | get /nothing | get /v1/chat/completions | post /v1/models",
        ANY,
        "a path that is not passed on gets the gateway's error object",
    ),
)
# Of a gateway (`+`) to the llama.cpp behind it (`-`).
LLAMA: tuple[Difference, ...] = (
    Difference("*", "- header server: .*", "the gateway does not say what is behind it"),
    Difference(
        "*",
        "[-+] header content-type: application/json.*",
        "an error is an answer of the gateway, which names no charset: JSON has one",
    ),
    Difference(
        "*stream | *stop of numbers",
        r"- data\.timings\.\w+: .*",
        "the gateway asks for the usage and takes its event out of the stream; llama.cpp puts its "
        "timings there (`gateway.include_usage: false` leaves both alone)",
    ),
    Difference(
        UNKNOWN + " | message unknown model",
        ANY,
        "llama.cpp serves any name of a model; the gateway refuses one that is not configured",
    ),
    Difference(
        OWN,
        ANY,
        "what the gateway reads of a body has the type that OpenAI's API gives it; llama.cpp takes "
        "fractions, numbers as names, and words as objects",
    ),
    Difference(
        "message * | count_tokens nothing",
        ERROR,
        "errors of Messages have Anthropic's shape, whoever refuses",
    ),
    Difference("get * | post /v1/models", ANY, "the gateway answers for itself"),
)
