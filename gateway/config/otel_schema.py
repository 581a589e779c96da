"""The section of OpenTelemetry: keys, types, domains and meanings.

As in `schema`, the text below each key is its documentation.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

CollectorUrl = Annotated[
    str,
    Meta(pattern=r"^https?://[^\s/]+(/\S*)?$", description="a URL: http://HOST:PORT"),
]
TracedShare = Annotated[float, Meta(ge=0.0, le=1.0, description="between 0 and 1")]
MetricsInterval = Annotated[float, Meta(ge=0.0, description="≥ 0")]
SendTime = Annotated[float, Meta(gt=0.0, le=60.0, description="above 0, at most 60")]


class OtelSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Traces and `gen_ai` metrics for a collector, by OTLP over HTTP
    ([observability](observability.md#opentelemetry)). No prompt, answer or key is in them.
    """

    endpoint: CollectorUrl
    """The collector, without `/v1/traces`: `http://collector:4318`."""
    sample: TracedShare = 0.1
    """Share of the requests that are traced, of those whose client tells of no trace of its own."""
    follow_parent: bool = True
    """Whether a request whose client tells of a trace (`traceparent`) is traced if, and only if,
    that is sampled. If not, `sample` decides about these too: then clients cannot make work.
    """
    metrics_s: MetricsInterval = 60.0
    """Seconds between two sendings of the metrics; 0: none are sent."""
    service: str = "cuvee"
    """`service.name` of all that is sent."""
    headers_file: str | None = None
    """File with further header lines of a request, `NAME: VALUE` each, such as a key; relative to
    this file, read at each sending.
    """
    ca_file: str | None = None
    """Certificates, in PEM, of the authorities that an `https` endpoint is trusted by, relative to
    this file. Default: those that the system trusts.
    """
    compression: Literal["none", "gzip"] = "none"
    """Whether what is sent is compressed."""
    timeout_s: SendTime = 10.0
    """A sending that takes longer has failed, and is tried again."""
