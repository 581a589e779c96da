"""The part of the configuration that a serving process needs, as a small value sent to workers.

It has no profiles, prices or SLOs: those are in the routing table as far as serving needs them.
"""

import msgspec

from gateway.config.load import Loaded
from gateway.config.schema import GatewaySection


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model.

    max_model_len: of the pool with the longest context, tokens. bytes_per_token: first value of the
    estimate. pools: names of the pools that serve it.
    """

    name: str
    max_model_len: int
    bytes_per_token: float
    pools: tuple[str, ...]


class ServingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the data path, the models, and engines by pool, where the configuration names
    one."""

    gateway: GatewaySection
    models: tuple[ServedModel, ...]
    engines: dict[str, str]

    @property
    def bytes_per_token(self) -> dict[str, float]:
        """First value of the estimate, by model."""
        return {model.name: model.bytes_per_token for model in self.models}


def serving(loaded: Loaded) -> ServingConfig:
    """Make the value from a configuration."""
    return ServingConfig(
        gateway=loaded.config.gateway,
        models=tuple(
            ServedModel(
                name=name,
                max_model_len=max(p.profile.max_model_len for p in loaded.pools if p.model == name),
                bytes_per_token=section.bytes_per_token,
                pools=tuple(p.name for p in loaded.pools if p.model == name),
            )
            for name, section in loaded.config.models.items()
        ),
        engines={
            name: pool.engine
            for name, pool in loaded.config.pools.items()
            if pool.engine is not None
        },
    )
