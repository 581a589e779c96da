"""What clients may call a model, which pools can serve a request at all, what their engines call
the model, and of which models lists may be split. No I/O; knows no bucket and no backend."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.config.serving import ServedModel
from gateway.config.upstream import Upstream
from gateway.errors import BadRequest
from gateway.proxy.renaming import Renaming
from gateway.routing.llm_request import LlmRequest
from gateway.routing.prompt_text import IMAGE, VIDEO

PICTURES: Final = "pictures"
TOOLS: Final = "tools"
EMBEDDINGS: Final = "embeddings"
# A list of tools that has any. It cannot stand inside a string: the quotes would have backslashes
# there.
SOME_TOOLS: Final = re.compile(rb'"(?:tools|functions)"\s*:\s*\[\s*[^\s\]]')
SEEN: Final = (IMAGE, VIDEO)  # kinds of what only an engine with eyes takes


class Names:
    """The names of one configuration; never changed. split: models whose lists may be split. pools:
    that serve each model."""

    def __init__(self, models: Sequence[ServedModel], upstreams: Mapping[str, Upstream]) -> None:
        """upstreams: by pool."""
        self._base = {
            name: model.name for model in models for name in (*model.aliases, *model.adapters)
        }
        self.split = frozenset([model.name for model in models if model.split_lists])
        self.pools = {model.name: frozenset(model.pools) for model in models}
        self._models = {pool: model.name for model in models for pool in model.pools}
        self._renamings = {
            (pool, asked): Renaming(asked, served)
            for pool, upstream in upstreams.items()
            for asked, served in upstream.names.items()
            if asked != served
        }
        # By name, where not every pool of the model has it.
        self._having: dict[str, frozenset[str]] = {}
        for model in models:
            for adapter in model.adapters:
                having = [p for p in model.pools if adapter in upstreams[p].names]
                if len(having) < len(model.pools):
                    self._having[adapter] = frozenset(having)
        self._lacking: dict[str, frozenset[str]] = {}
        for ability in (PICTURES, TOOLS, EMBEDDINGS):
            lacking = [p for p, upstream in upstreams.items() if ability in upstream.without]
            if lacking:
                self._lacking[ability] = frozenset(lacking)
        # Whether there is nothing to look up, as in most configurations.
        self.plain = not (self._base or self._renamings or self._lacking)

    def __repr__(self) -> str:
        return f"<Names of {', '.join(self.pools)} and {', '.join(self._base) or 'no others'}>"

    def base(self, name: str) -> str:
        """The model that a name stands for; the name itself if it is no alias and no adapter."""
        return self._base.get(name, name)

    def able(self, model: str, request: LlmRequest, body: bytes) -> frozenset[str] | None:
        """Names of the pools that can serve a request to a model; `None`: all of the model. Raises
        BadRequest if none can."""
        pools = able = self.pools.get(model, frozenset())
        if self._having and request.model is not None:
            able &= self._having.get(request.model, able)
        for ability, lacking in self._lacking.items():
            if pools & lacking and _needs(ability, request, body):
                able -= lacking
                if not able:
                    raise BadRequest(f"The model `{model}` is not served with {ability}.")
        return None if able == pools else able

    def renaming(self, pool: str, asked: str | None) -> Renaming | None:
        """How to rename what is sent to a pool, and what it answers; `None`: not at all."""
        return None if asked is None else self._renamings.get((pool, asked))

    def own(self, pool: str) -> Renaming | None:
        """How to rename what a pool answers of a request that is not known: by the model's own
        name; `None`: not at all."""
        return self.renaming(pool, self._models.get(pool))


def _needs(ability: str, request: LlmRequest, body: bytes) -> bool:
    if ability == EMBEDDINGS:
        return request.endpoint.name == EMBEDDINGS
    if ability == TOOLS:
        return SOME_TOOLS.search(body) is not None
    return any(kind in SEEN for kind, _ in request.payload)


def model_of(llm_request: LlmRequest, models: Sequence[str], names: Names) -> str:
    """The model that a request is for. models: all of them. Raises BadRequest."""
    model = llm_request.model
    if model is None:
        if len(models) > 1:
            raise BadRequest("you must provide a model parameter", param="model")
        model = models[0]
    return model if names.plain else names.base(model)
