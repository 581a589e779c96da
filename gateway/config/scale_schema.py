"""The section of a pool that says where its wished number of backends goes: keys, types, domains,
defaults and meanings.

As in `schema`, the text below each key is its documentation.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.config.domains import (
    Count,
    CountOrZero,
    HeaderName,
    HeaderValue,
    NotNegative,
    Positive,
)

ExitCode = Annotated[int, Meta(ge=1, le=255, description="between 1 and 255")]
NamePrefix = Annotated[
    str,
    Meta(
        pattern=r"^[a-z]([-a-z0-9]{0,48}[a-z0-9])?\Z",
        description="lower-case letters, digits and hyphens, at most 50",
    ),
]


class KubernetesScaleSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An object of Kubernetes whose `scale` subresource is set. Needs the verbs `get` and `patch`
    on it alone.
    """

    name: str
    """Name of the object."""
    kind: str = "Deployment"
    """`Deployment`, `StatefulSet`, `ReplicaSet`, `LeaderWorkerSet`, AIBrix' `StormService` and
    `RayClusterFleet`, or, with `api_version` and `plural`, any other that has this subresource.
    """
    namespace: str | None = None
    """Where it is. Default: the namespace of the gateway's own pod; outside of a cluster `default`.
    """
    api_version: str | None = None
    """Group and version of the kind: `example.com/v1`. Default: as the kinds above have it."""
    plural: str | None = None
    """The kind's name in URLs: `deployments`."""
    mark_leaving: bool = False
    """Whether pods that should go first get a low `controller.kubernetes.io/pod-deletion-cost`,
    which Deployments and ReplicaSets follow. Needs the verbs `list` and `patch` on pods too.
    """
    api_server: str | None = None
    """URL of the API. Default: that of the cluster that the gateway runs in, with the token and
    authorities of its service account.
    """
    token_file: str | None = None
    """File with a token for `api_server`, relative to this file; read for each request."""
    ca_file: str | None = None
    """Certificates, in PEM, of the authorities that `api_server` is trusted by, relative to this
    file. Default: those that the system trusts.
    """


class WebhookSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A URL that gets each wish as a POST with JSON, signed with a key
    ([the payload](actuation.md#webhook)).
    """

    url: str
    """The URL, of http or https. Redirects are not followed."""
    key_file: str | None = None
    """File with the key that wishes are signed with (HMAC-SHA256), relative to this file; read for
    each of them.
    """
    key_env: str | None = None
    """Variable of the environment with that key, instead of a file."""
    headers: dict[HeaderName, HeaderValue] = {}
    """Further headers."""
    ca_file: str | None = None
    """Certificates, in PEM, of the authorities that an `https` URL is trusted by, relative to this
    file. Default: those that the system trusts.
    """
    timeout_s: Positive = 10.0
    """Until the whole answer to one try."""
    give_up_s: Positive = 60.0
    """Until no further try is made."""


class CommandSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program that is given the count (`run`), or three that list, launch and stop single
    backends. Each is a list of words, run without a shell in this file's folder; `{pool}`,
    `{model}`, `{gpu}`, `{backends}`, `{running}`, `{leaving}` (URLs with commas between) and
    `{key}` in them are replaced ([commands](actuation.md#command)).
    """

    run: tuple[str, ...] = ()
    """Program and arguments that bring the pool to `{backends}` backends."""
    list: tuple[str, ...] = ()
    """Prints what there is: a line counts whose first word is a name that the gateway gave. A
    backend of which the line names the host goes first where the pool's `{leaving}` has it.
    """
    launch: tuple[str, ...] = ()
    """Starts the backend `{name}`, which is `PREFIX-NUMBER`; `{number}` is replaced too."""
    stop: tuple[str, ...] = ()
    """Ends the backend `{name}`."""
    prefix: NamePrefix | None = None
    """What names begin with. Default: `cuvee-POOL`. Whoever shares an account needs one of their
    own.
    """
    timeout_s: Positive = 600.0
    """Until a program that has not ended is killed, with all that it started."""
    final_codes: tuple[ExitCode, ...] = ()
    """Exit codes after which the same wish is not tried again, for example for `out of stock`."""
    environment: tuple[str, ...] = ()
    """Variables of the environment that the programs get, besides `PATH`, `HOME`, `USER`,
    `LOGNAME`, `LANG`, `LC_ALL`, `TZ` and `TMPDIR`.
    """


class ScaleSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the number of backends that the pool is to have goes: one of `kubernetes`, `webhook`,
    `command` and `prometheus` ([actuation](actuation.md)). What is started comes back by
    `discover`.
    """

    kubernetes: KubernetesScaleSection | None = None
    """An object of Kubernetes."""
    webhook: WebhookSection | None = None
    """A URL."""
    command: CommandSection | None = None
    """A program."""
    prometheus: bool = False
    """Nothing but the metric `cuvee_desired_backends`, which an HPA or KEDA follows."""
    least: CountOrZero | None = None
    """Fewest backends that are wished. Default: `min_backends`."""
    most: Count | None = None
    """Most that are wished. Default: `max_backends`; one of the two is required."""
    startup_s: Positive = 180.0
    """How long a start typically takes, until it is learned."""
    asleep: CountOrZero = 0
    """Most backends that sleep because demand does not need them awake, as long as that costs less
    ([sleep](fleet.md#asleep)): vLLM with `--enable-sleep-mode` and `VLLM_SERVER_DEV_MODE=1`. Those
    that sleep, for whatever reason, are woken before others are started.
    """
    asleep_usd_per_hour: NotNegative | None = None
    """Price of one backend while it sleeps: 0 where its GPUs serve another model meanwhile.
    Default: the pool's price, since the GPUs are rented all the same; then none is put to sleep,
    because it would cost as much and serve nothing.
    """
    wake_s: Positive = 10.0
    """How long it typically takes to wake one, until it is learned."""
