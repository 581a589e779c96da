"""What one emulated engine serves, as its command line says it. Knows no requests."""

from dataclasses import dataclass

from loadtest.emulator.refusals import JsonObject, model_not_found


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatedModel:
    """A model under its names.

    names: of the model itself; the first stands in answers and metrics (`--served-model-name`).
    loras: adapters, each a model name of its own (`--lora-modules`). max_model_len: tokens of
    prompt and output together. image_tokens: of each picture; `None`: not a multimodal model.
    tool_parser: whether the model may decide to call a tool (`--enable-auto-tool-choice`).
    force_usage: whether every chunk of every stream carries the usage, whatever was asked for
    (`--enable-force-include-usage`). tells_hits: whether the usage has the prefix hits
    (`--enable-prompt-tokens-details`).
    """

    names: tuple[str, ...]
    max_model_len: int
    loras: tuple[str, ...] = ()
    image_tokens: int | None = None
    tool_parser: bool = False
    force_usage: bool = False
    tells_hits: bool = True

    @property
    def name(self) -> str:
        return self.names[0]

    def answering(self, body: JsonObject) -> str:
        """The name in the answer; a request without one means the model itself.

        Raises RequestRefused for a name that is not served.
        """
        asked = body.get("model")
        if asked in (None, *self.names):
            return self.name
        if asked in self.loras:
            return str(asked)
        raise model_not_found(asked, ", ".join((*self.names, *self.loras)))
