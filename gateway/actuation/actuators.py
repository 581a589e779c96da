"""The actuators that a configuration asks for. Knows every kind of actuator, and orders nothing."""

import os
from collections.abc import Mapping
from pathlib import Path

from gateway.actuation.actuator import Actuator
from gateway.actuation.command import Command
from gateway.actuation.kubernetes_scale import KubernetesScale
from gateway.actuation.prometheus_scale import PrometheusScale
from gateway.actuation.scaled_pool import ScaledPool
from gateway.actuation.webhook import Webhook
from gateway.config.load import Loaded
from gateway.config.scale_schema import ScaleSection


def actuators(loaded: Loaded, environ: Mapping[str, str] = os.environ) -> dict[str, Actuator]:
    """An actuator for each pool that has `scale`, by the pool's name. environ: where keys are, and
    what programs get a few variables of."""
    return {
        name: _actuator(pool, section, root, environ)
        for name, (pool, section, root) in made_from(loaded).items()
    }


def made_from(loaded: Loaded) -> dict[str, tuple[ScaledPool, ScaleSection, Path]]:
    """What each of them is made from: where it is the same after a reload, the actuator should stay
    the same, because it knows which wishes it has brought."""
    found = {}
    for pool in loaded.pools:
        section = loaded.config.pools[pool.name].scale
        if section is not None:
            scaled = ScaledPool(
                name=pool.name,
                model=pool.model,
                gpu=pool.gpu,
                gpus=pool.gpus,
                zone=pool.zone,
            )
            found[pool.name] = scaled, section, loaded.root
    return found


def _actuator(
    pool: ScaledPool, section: ScaleSection, root: Path, environ: Mapping[str, str]
) -> Actuator:
    if section.kubernetes is not None:
        return KubernetesScale(section.kubernetes, root)
    if section.webhook is not None:
        return Webhook(pool, section.webhook, root, environ)
    if section.command is not None:
        return Command(pool, section.command, root, environ)
    return PrometheusScale(pool)
