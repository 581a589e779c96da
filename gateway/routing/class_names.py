"""The names of a table's SLO classes, by which requests ask for them. Pure."""

from collections.abc import Sequence
from typing import Final

from gateway.errors import ClassNotFound, ModelNotFound
from planner.model.buckets import BEST_EFFORT, DEFAULT, SloClass

CLASS_HEADER: Final = "x-cuvee-slo-class"  # how a request names its SLO class
LEFT_OVER: Final = BEST_EFFORT  # a copy, which compiled code finds for less


class ClassNames:
    """The classes of one table, by model and name."""

    __slots__ = ("_indexes",)

    def __init__(self, classes: Sequence[SloClass]) -> None:
        self._indexes = {(c.model, c.name): index for index, c in enumerate(classes)}

    def __repr__(self) -> str:
        return f"<ClassNames of {len(self._indexes)} classes>"

    def index(self, model: str, slo_class: str) -> int:
        """The index of one of a model's SLO classes; of its default class for `best-effort`, which
        has no buckets of its own. Raises ModelNotFound or ClassNotFound."""
        index = self._indexes.get((model, slo_class))
        if index is None and slo_class == LEFT_OVER:
            index = self._indexes.get((model, DEFAULT))
        if index is not None:
            return index
        known = self.names(model)
        if not known:
            raise ModelNotFound(f"The model `{model}` does not exist.", param="model")
        names = ", ".join(f"`{name}`" for name in known)
        text = f"the model `{model}` has no SLO class `{slo_class}`; it has {names}"
        raise ClassNotFound(f"{CLASS_HEADER}: {text}", param=CLASS_HEADER)

    def names(self, model: str) -> tuple[str, ...]:
        """The names of a model's SLO classes, the built-in one last; none of an unknown model."""
        names = tuple(name for owner, name in self._indexes if owner == model)
        return (*names, LEFT_OVER) if names else ()
