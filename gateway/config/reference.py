"""The page that documents the configuration file, made from the types of its sections.

`python -m gateway.config.reference > docs/configuration.md`; a test keeps the two the same.
"""

import ast
import inspect
import typing
from collections.abc import Iterator

import msgspec

from gateway.config import (
    access_schema,
    cluster_schema,
    discover_schema,
    kubernetes_schema,
    kv_events_schema,
    otel_schema,
    pool_schema,
    record_schema,
    scale_schema,
    scaling_schema,
    schema,
    weights_schema,
)
from gateway.config.access_schema import (
    AccessSection,
    AdminAccessSection,
    KeySection,
    TlsSection,
)
from gateway.config.cluster_schema import ClusterSection
from gateway.config.discover_schema import DiscoverSection, DnsSection
from gateway.config.kubernetes_schema import KubernetesSection
from gateway.config.kv_events_schema import KvEventsSection
from gateway.config.otel_schema import OtelSection
from gateway.config.pool_schema import AnyOfSection, PoolSection, SpotSection
from gateway.config.record_schema import JournalSection, TraceSection
from gateway.config.scale_schema import (
    CommandSection,
    KubernetesScaleSection,
    ScaleSection,
    WebhookSection,
)
from gateway.config.scaling_schema import ScalingSection
from gateway.config.schema import (
    BucketSection,
    Config,
    GatewaySection,
    LimitsSection,
    ModelSection,
    PlannerSection,
    SharedGpusSection,
    SloSection,
    StockSection,
)
from gateway.config.weights_schema import WeightsSection

HEAD = """\
# Configuration

One YAML file, given as `--config`. Unknown keys are errors. Paths in the file are relative to the
file. Times are in seconds, sizes in tokens, prices in US dollars per hour. `configs/demo.yaml` is a
complete example; [planning](planning.md) says where it is after `pip install`. `cuvee init` writes
a first one of engines that run: it asks them for model, context, version and KV memory; what nobody
says it assumes, and tells.

`cuvee check --config FILE` reports all mistakes at once, one line each, as `FILE:LINE: KEY: TEXT`,
and exits with 2. It stops early only where the file is not YAML (the first mistake is told) or a
key stands twice. Parts that check themselves tell their first mistake: an SLO, the bounds of a
pool, `buckets`, `limits`. What would follow from a value that cannot be used is not told. Warnings
are about what is allowed and hardly wanted, such as a price of 0; with `--strict` they are
mistakes. `cuvee serve` logs them.

`--connect` asks all backends at once for their health and for `/v1/models`, and compares model,
adapters and context with the configuration and the profiles: a line for each, and exit code 1 if
one does not answer, serves something else, or asks for a key (that of its pool is sent, else
`CUVEE_API_KEY`). `cuvee serve` asks each backend that comes up. One that serves another model gets
no requests, and counts as down until it serves the right one; the log says so once, with both
names. Where an engine tells tighter limits than its profile has (context, tokens of KV, requests at
one time), the gateway routes and plans with the engine's.

A value may contain variables of the environment: `${NAME}`, or `${NAME:-default}` for one that may
be missing or empty; `$${` stands for the characters `${`. A variable without a value or a default
is a mistake. Inside `{ }` and `[ ]` YAML wants quotes around them: `{port: "${PORT}"}`.

Editors that follow the YAML language server complete the keys, show their meaning and mark mistakes
while you write, if the first line of the file names the schema, which `cuvee schema` prints:
`# yaml-language-server: $schema=schema.json` (a path relative to the file, or an address).

## A running gateway follows its file

The gateway reads the file again when the file or one that it names has changed (it looks every
second, also behind links, such as those of a Kubernetes ConfigMap), at SIGHUP, and at `POST
/cuvee/reload` on the admin port. Everything is put in force at once: models, classes, pools,
backends, profiles, prices, limits and settings. New backends are probed first, then those that are
gone get no new requests and finish what they have. Only `host`, `port`, `workers`, `admin_host`,
`admin_port` and `cluster` of `gateway` need a restart; the answer and the log say so. A file that
cannot be used changes nothing: the log, the answer and `/readyz` on the admin port have its
problems, and `cuvee_config_last_reload_successful` is 0. What was observed of a class stays, unless
`buckets` changes. `planner.workload` is used only where too few requests were observed.

## A new version takes over

Ports, workers and the program itself change with a restart, which on Linux refuses no connection.
Start the new gateway with `--replace` while the old one serves: when it is ready, the old one
accepts no more, finishes its requests within `drain_s`, and ends. Or send SIGTERM to the old one
and start the new one within `drain_delay_s`. Both must have the same `host` and `port` and run as
the same user; the listening sockets, also that of a fixed `admin_port`, are passed on. The number
of workers may differ. Without `--replace` a second gateway on a port that is served does not start.
SIGUSR2 to the first process starts its command again with `--replace`: the version that is
installed by then. systemd gets to know the new main process
([deployment](deployment.md#machines-with-systemd)).

This page is made from the types in `gateway/config/schema.py`, by `python -m
gateway.config.reference`.
"""
SECTIONS: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("(top level)", Config),
    ("models.NAME", ModelSection),
    ("models.NAME.slo", SloSection),
    ("models.NAME.classes.CLASS", SloSection),
    ("pools.NAME", PoolSection),
    ("pools.NAME.discover", DiscoverSection),
    ("pools.NAME.discover.dns", DnsSection),
    ("pools.NAME.discover.kubernetes", KubernetesSection),
    ("pools.NAME.kv_events", KvEventsSection),
    ("pools.NAME.scale", ScaleSection),
    ("pools.NAME.scale.kubernetes", KubernetesScaleSection),
    ("pools.NAME.scale.webhook", WebhookSection),
    ("pools.NAME.scale.command", CommandSection),
    ("pools.NAME.spot", SpotSection),
    ("pools.NAME.any_of", AnyOfSection),
    ("buckets", BucketSection),
    ("planner", PlannerSection),
    ("limits", LimitsSection),
    ("limits.stock", StockSection),
    ("limits.shared_gpus.NAME", SharedGpusSection),
    ("scaling", ScalingSection),
    ("weights", WeightsSection),
    ("gateway", GatewaySection),
    ("gateway.trace", TraceSection),
    ("gateway.journal", JournalSection),
    ("gateway.cluster", ClusterSection),
    ("gateway.otel", OtelSection),
    ("gateway.tls, gateway.admin_tls", TlsSection),
    ("access", AccessSection),
    ("access.admin_read", AdminAccessSection),
    ("keys.NAME (in a keys file)", KeySection),
)
WORDS = {str: "text", int: "integer", float: "number", bool: "true or false"}


def manual() -> str:
    """The page in Markdown."""
    texts = notes()
    return "\n".join(
        [HEAD, *(line for path, section in SECTIONS for line in _table(path, section, texts))]
    )


def _table(
    path: str, section: type[msgspec.Struct], texts: dict[tuple[str, str], str]
) -> Iterator[str]:
    """The lines about one section: its title, its docstring and a table of its keys."""
    yield f"## `{path}`\n"
    yield f"{inspect.getdoc(section)}\n"
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for field in msgspec.structs.fields(section):
        note = texts[section.__name__, field.name]
        yield f"| `{field.name}` | {_type(field.type)} | {_default(field)} | {note} |"
    yield ""


def notes() -> dict[tuple[str, str], str]:
    """The text below each field in the source, by class name and field name."""
    found = {}
    modules = (
        schema,
        pool_schema,
        record_schema,
        discover_schema,
        kubernetes_schema,
        kv_events_schema,
        scale_schema,
        scaling_schema,
        weights_schema,
        cluster_schema,
        otel_schema,
        access_schema,
    )
    bodies = [ast.parse(inspect.getsource(module)).body for module in modules]
    for node in (node for body in bodies for node in body):
        if isinstance(node, ast.ClassDef):
            for before, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr):
                    text = ast.literal_eval(after.value)
                    found[node.name, ast.unparse(before.target)] = " ".join(text.split())
    return found


def _type(field_type: typing.Any) -> str:
    """A type in words, with the domain of a number."""
    if field_type in WORDS:
        return WORDS[field_type]
    origin, arguments = typing.get_origin(field_type), typing.get_args(field_type)
    if origin is typing.Annotated:
        meta = arguments[1]
        if meta.pattern is not None:
            return WORDS[arguments[0]]
        least = f"> {meta.gt:g}" if meta.ge is None else f"≥ {meta.ge:g}"
        return f"{WORDS[arguments[0]]} {least}"
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is dict:
        return "mapping by name"
    if origin is tuple:
        inner = arguments[0]
        plain = inner in WORDS or typing.get_origin(inner) is typing.Annotated
        return f"list of {_type(inner) if plain else 'sections'}"
    known = [a for a in arguments if a is not type(None)]
    return _type(known[0]) if known else "section"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is None:
        return "–"
    if isinstance(field.default, tuple) and field.default:
        return ", ".join(f"`{entry}`" for entry in field.default)
    if isinstance(field.default, str | int | float):
        return f"`{field.default}`"
    return "**required**" if field.required else "see below"


if __name__ == "__main__":
    print(manual(), end="")
