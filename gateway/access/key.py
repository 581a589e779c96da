"""One key of a client: what it opens, and its limits. A value; never changed."""

from math import inf

from gateway.errors import KeyForbids


class AccessKey:
    """A key by its name. digest: SHA-256 of the key, which nothing else here knows.

    models, slo_classes: names that it may ask for, `None`: all. slo_class: that of requests which
    name none, `None`: the model's own. expires_s: Unix time. slot: its place in the `KeyBoard`.
    requests_per_minute, tokens_per_minute, concurrency, usd_per_day: infinite without a limit.
    limited: whether there is any. limit_lines: header lines, as OpenAI has them, in which what is
    left and until when is to be filled in.
    """

    __slots__ = (
        "concurrency", "digest", "expires_s", "limit_lines", "limited", "models", "name",
        "requests_per_minute", "slo_class", "slo_classes", "slot",
        "tokens_per_minute", "usd_per_day",
    )  # fmt: skip

    def __init__(
        self,
        *,
        name: str,
        digest: bytes = b"",
        slot: int = 0,
        models: frozenset[str] | None = None,
        slo_classes: frozenset[str] | None = None,
        slo_class: str | None = None,
        expires_s: float = inf,
        requests_per_minute: float = inf,
        tokens_per_minute: float = inf,
        concurrency: float = inf,
        usd_per_day: float = inf,
    ) -> None:
        self.name = name
        self.digest = digest
        self.slot = slot
        self.models = models
        self.slo_classes = slo_classes
        self.slo_class = slo_class
        self.expires_s = expires_s
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self.concurrency = concurrency
        self.usd_per_day = usd_per_day
        least = min(requests_per_minute, tokens_per_minute, concurrency, usd_per_day)
        self.limited = least < inf
        self.limit_lines = _limit_lines(b"requests", requests_per_minute)
        self.limit_lines += _limit_lines(b"tokens", tokens_per_minute)

    def __repr__(self) -> str:
        return f"<AccessKey {self.name}>"

    def opens(self, *names: str) -> bool:
        """Whether it may ask for a model by one of these names."""
        models = self.models
        return models is None or any(name in models for name in names)

    def require(self, model: str, asked: str | None, slo_class: str) -> None:
        """Raise KeyForbids for a model or an SLO class that is not the key's. asked: the model's
        name in the request."""
        if self.models is not None and not self.opens(model, asked or model):
            text = f"The key `{self.name}` does not have access to model `{asked or model}`"
            raise KeyForbids(text, code="model_not_found", param="model")
        if self.slo_classes is not None and slo_class not in self.slo_classes:
            text = f"The key `{self.name}` does not have access to SLO class `{slo_class}`"
            raise KeyForbids(text, code="slo_class_not_allowed", param="x-cuvee-slo-class")


def _limit_lines(name: bytes, limit: float) -> bytes:
    """The lines of one limit, without two values; nothing without a limit."""
    if limit == inf:
        return b""
    start = b"x-ratelimit-limit-%b: %d\r\n" % (name, int(limit))
    left = b"x-ratelimit-remaining-%b: %%d\r\n" % name
    return start + left + b"x-ratelimit-reset-%b: %%b\r\n" % name
