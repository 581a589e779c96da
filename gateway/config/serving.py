"""What of the configuration a serving process needs: a small value that travels to workers.

Made from the file by the process that reads it. Workers see no profiles, no prices and no promises.
"""

import msgspec

from gateway.config.load import Loaded
from gateway.config.schema import GatewaySection


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model, as `/v1/models` shows it. max_model_len: of the pool with the longest context,
    tokens. bytes_per_token: where its estimate starts. pools: those that serve it."""

    name: str
    max_model_len: int
    bytes_per_token: float
    pools: tuple[str, ...]


class ServingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the data path, the models, and the engine behind each pool that states it."""

    gateway: GatewaySection
    models: tuple[ServedModel, ...]
    engines: dict[str, str]

    @property
    def bytes_per_token(self) -> dict[str, float]:
        """Where the estimate of prompt tokens starts, by model."""
        return {model.name: model.bytes_per_token for model in self.models}


def serving(loaded: Loaded) -> ServingConfig:
    """The part of a configuration that serves."""
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
