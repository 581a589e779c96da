"""The section of a pool in the configuration file: keys, types, domains, defaults and meanings.

As in `schema`, the text below each key is its documentation.
"""

from typing import Literal

import msgspec

from gateway.config.discover_schema import DiscoverSection
from gateway.config.domains import Count, HeaderName, HeaderValue, HostName, Positive, UrlPath
from gateway.config.kv_events_schema import KvEventsSection
from gateway.config.scale_schema import ScaleSection


class SpotSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Backends that may be taken away at any time."""

    preemptions_per_hour: float
    """How often one backend is taken away."""
    restart_s: float
    """Until a lost one is ready again."""
    confidence: float = 0.99
    """With which enough backends are ready."""
    most_share: float = 0.5
    """Of the model's requests, the most that spot pools of one zone may serve."""
    backfill_usd_per_hour: float = 0.0
    """Price of an on-demand backend that stands in for a lost one."""
    backfill_s: float | None = None
    """Until it does; default: none does."""


class AnyOfSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What could be rented in place of the pool's own configuration: every combination of these
    values is an alternative. A key without values stays as it is in `profile`.
    """

    gpu: tuple[str, ...] = ()
    """GPU types, as `gpus.yaml` has them."""
    tensor_parallel_size: tuple[Count, ...] = ()
    """Numbers of GPUs that one backend takes."""
    dtype: tuple[Literal["fp16", "bf16", "fp8"], ...] = ()
    """Formats of weights and KV."""
    max_num_seqs: tuple[Count, ...] = ()
    """Most requests that an engine serves at one time."""
    max_model_len: tuple[Count, ...] = ()
    """Longest prompt and answer of one request."""
    profile: tuple[str, ...] = ()
    """Further profiles, taken as they are, for example measured ones; they take the place of a
    combination of the same GPUs and limits.
    """


class PoolSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Interchangeable backends: one model, one GPU type and count, one profile, one price."""

    model: str
    """Which of `models` the backends serve."""
    profile: str
    """Profile: a file, relative to this file, or a built-in name such as `llama-3-8b/H100`."""
    backends: tuple[str, ...] = ()
    """Base URLs, one per running engine. Required where there is no `discover`."""
    discover: DiscoverSection | None = None
    """Where more backends are found while the gateway serves."""
    scale: ScaleSection | None = None
    """Where the number of backends that it is to have goes; default: nowhere, it is planned with
    those that there are.
    """
    engine: Literal["vllm", "sglang", "tgi"] | None = None
    """The engine behind the URLs; the gateway then reads health and errors as this engine reports
    them. Default: the gateway accepts what any of the three reports.
    """
    served_name: str | None = None
    """The name that its engines have for the model (vLLM: `--served-model-name`). The gateway puts
    it into requests, and the name that the client used back into answers. Default: that of the
    model.
    """
    adapters: dict[str, str | None] | None = None
    """Which of the model's `adapters` its engines have, each with the engines' own name for it, or
    nothing where that is the same. Default: all, under their names.
    """
    without: tuple[Literal["pictures", "tools", "embeddings"], ...] = ()
    """What its engines cannot do: requests that need it go to other pools of the model."""
    affinity: Literal["auto", "caller", "off"] = "auto"
    """Whether requests go where the beginning of their prompt has been, as far as all promises
    allow ([dispatch](dispatch.md#where-a-prompt-has-been)). `caller`: only where a prompt of the
    same caller has been; if one pool of a model says so, it holds for all of the model.
    """
    kv_events: KvEventsSection | None = None
    """What its engines publish of their prefix caches; default: nothing."""
    api_key_file: str | None = None
    """File with the key that its engines ask for, relative to this file; sent as `authorization:
    Bearer`, with probes too. The file is read again when it changes.
    """
    api_key_env: str | None = None
    """Variable of the environment with that key, instead of a file."""
    forward_authorization: bool = False
    """Whether its engines get the keys of clients: `authorization`, `x-api-key` and `api-key`.
    """
    headers: dict[HeaderName, HeaderValue] = {}
    """Headers that its engines get with each request and probe. A client's own of the same name
    reach no backend.
    """
    ca_file: str | None = None
    """Certificates, in PEM, of the authorities that its `https` URLs are trusted by, relative to
    this file. Default: those that the system trusts.
    """
    client_cert_file: str | None = None
    """Certificate, in PEM, that the gateway shows to its engines; needs `client_key_file`."""
    client_key_file: str | None = None
    """Private key of that certificate, in PEM, without a password."""
    tls_server_name: HostName | None = None
    """Name that the certificates of its `https` engines are for, where their URLs have addresses.
    Default: the host of the URL; with `discover.dns` its name.
    """
    health_path: UrlPath | None = None
    """Path that answers 200 while an engine can serve. Default: `/health`."""
    connect_timeout_s: Positive | None = None
    """As `gateway.connect_timeout_s`, for this pool; the default is that."""
    first_byte_timeout_s: Positive | None = None
    """As `gateway.first_byte_timeout_s`, for this pool."""
    idle_timeout_s: Positive | None = None
    """As `gateway.idle_timeout_s`, for this pool."""
    unary_timeout_s: Positive | None = None
    """As `gateway.unary_timeout_s`, for this pool."""
    usd_per_hour: float | None = None
    """Price of one backend. Default: the price of its GPU type in `prices`, or, if the list does
    not have that type, `usd_per_hour` of the GPU in the profile, times the number of GPUs.
    """
    min_backends: int = 0
    """Fewest backends that a plan uses."""
    max_backends: int | None = None
    """Most backends that a plan uses, of each alternative of `any_of` too; default: the number of
    `backends`, and no bound for alternatives. A pool that has alternatives and no `backends` has no
    bound either, nor has one with `discover`: a gateway plans with as many as there are.
    """
    reserved: int = 0
    """Backends that are paid for already: they cost a plan nothing."""
    zone: str | None = None
    """Where it runs, for stock by zone and for spot."""
    shared_gpus: str | None = None
    """Which of `limits.shared_gpus` its engines live on, beside engines of other pools: each of
    these GPUs has an engine of every pool, and one of them is awake at a time.
    """
    spot: SpotSection | None = None
    """For pools of spot instances."""
    any_of: AnyOfSection | None = None
    """Other configurations that could be rented. Commands that plan choose among these too; the
    gateway serves with `profile` alone ([planning](planning.md#any-of-these)).
    """
