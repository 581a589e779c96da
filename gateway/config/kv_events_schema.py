"""The section of a pool about the KV events of its engines: keys, types, domains, defaults and
meanings.

As in `schema`, the text below each key is its documentation.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

# vLLM's and SGLang's own default.
PORT = 5557
RANKS = 64

Ranks = Annotated[int, Meta(ge=1, le=RANKS, description=f"between 1 and {RANKS}")]


class KvEventsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the engines of the pool publish of their prefix caches over ZeroMQ (vLLM and SGLang:
    `--kv-events-config`): by it the gateway forgets what an engine has forgotten
    ([dispatch](dispatch.md#what-engines-publish)). Needs the extra `kv-events`.
    """

    endpoint: str = f"tcp://{{host}}:{PORT}"
    """Where the engine of each backend publishes. `{host}` is the host of the backend's URL;
    `{port}` is its port, and `{port+N}` one that is N higher, for several engines on one host.
    """
    replay_endpoint: str | None = None
    """Where an engine can be asked for events that were lost, in the same form. Default: it
    cannot.
    """
    topic: str | None = None
    """The topic of its events, or how it begins. Default: any."""
    ranks: Ranks = 1
    """Ranks of data parallelism that publish, each at a port that is one higher than that of the
    rank before it, as with vLLM.
    """
