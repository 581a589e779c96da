"""The part of the configuration that a serving process needs, as a small value sent to workers.

It has no profiles, prices or SLOs: those are in the routing table as far as serving needs them.
"""

import msgspec

from gateway.config.access_keys import AccessKeys
from gateway.config.load import Loaded
from gateway.config.schema import GatewaySection
from gateway.config.tokenizer_file import TokenizerFile
from gateway.config.upstream import TlsPaths, Upstream, withheld


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model.

    max_model_len: of the pool with the longest context, tokens. bytes_per_token: first value of the
    estimate. pools: names of the pools that serve it. aliases, adapters: further names. tokenizer:
    by which its prompts are counted, `None` if they are estimated. split_lists: whether lists that
    are too wide for the promise are served in parts.
    """

    name: str
    max_model_len: int
    bytes_per_token: float
    pools: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    tokenizer: TokenizerFile | None = None
    split_lists: bool = False


class ServingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the data path, the models, how the engines are spoken to, by pool, the keys of
    clients, and the certificates of the data port."""

    gateway: GatewaySection
    models: tuple[ServedModel, ...]
    upstreams: dict[str, Upstream]
    access: AccessKeys | None = None
    tls: TlsPaths | None = None

    @property
    def bytes_per_token(self) -> dict[str, float]:
        """First value of the estimate, by model."""
        return {model.name: model.bytes_per_token for model in self.models}


def serving(loaded: Loaded) -> ServingConfig:
    """Make the value from a configuration."""
    settings = loaded.config.gateway
    names = withheld(settings, loaded.upstreams)
    weights = settings.caller_weights | ({} if loaded.access is None else loaded.access.weights)
    return ServingConfig(
        gateway=msgspec.structs.replace(settings, withheld_headers=names, caller_weights=weights),
        models=tuple(
            ServedModel(
                name=name,
                max_model_len=max(p.profile.max_model_len for p in loaded.pools if p.model == name),
                bytes_per_token=section.bytes_per_token,
                pools=tuple(p.name for p in loaded.pools if p.model == name),
                aliases=section.aliases,
                adapters=section.adapters,
                tokenizer=loaded.tokenizers.get(name),
                split_lists=section.split_lists,
            )
            for name, section in loaded.config.models.items()
        ),
        upstreams=dict(loaded.upstreams),
        access=loaded.access,
        tls=loaded.tls,
    )
