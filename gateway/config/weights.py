"""What is wrong with sections about routers that follow the plan. Writes no weight."""

from pathlib import Path

from gateway.config.findings import Findings, did_you_mean
from gateway.config.kubernetes import OBJECT_NAME, check_api
from gateway.config.schema import Config
from planner.document import shown


def check_weights(config: Config, root: Path, findings: Findings) -> None:
    """Note what could not be written, or would be written twice. root: the folder of the file."""
    first: dict[object, str] = {}
    for index, section in enumerate(config.weights):
        key = f"weights[{index}]"
        for name in ("http_route", "namespace"):
            value = getattr(section, name)
            if value is not None and not OBJECT_NAME.fullmatch(value):
                text = f"this is no name of an object: {shown(value)}"
                findings.problem(f"{key}.{name}", text)
        models = {}
        for pool in section.refs:
            if pool not in config.pools:
                text = f"there is no such pool{did_you_mean(pool, config.pools)}"
                findings.problem(f"{key}.refs.{shown(pool)}", text)
            else:
                models[config.pools[pool].model] = pool
        if len(models) > 1:
            one, other, *_ = models.items()
            text = (
                f"{one[1]} serves {shown(one[0])} and {other[1]} {shown(other[0])}: "
                "weights are shares of the requests for one model"
            )
            findings.problem(f"{key}.refs", text)
        if not section.refs:
            findings.problem(f"{key}.refs", "needs at least one entry")
        if len(set(section.refs.values())) < len(section.refs):
            findings.problem(f"{key}.refs", "one entry stands for two pools")
        for ref in section.refs.values():
            same = (section.api_server, section.namespace, section.http_route, ref)
            other_key = first.setdefault(same, key)
            if other_key != key:
                text = f"{shown(ref)} is in {other_key} too: the two would take turns"
                findings.problem(f"{key}.refs", text)
        check_api(key, section, root, findings)
