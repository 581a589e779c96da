"""What a client would rather have, by its Accept header (RFC 9110 §12.5.1)."""

VERSIONS = ("", "0.0.1", "1.0.0")  # of OpenMetrics, which one page is


def prefers(accept: str, kind: str) -> bool:
    """Whether a client names a type, `type/subtype`, and wants nothing else more. What it cannot
    be understood of, it does not want."""
    best, wanted = 0.0, 0.0
    for part in accept.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        values = dict(word.split("=", 1) for word in parameters if "=" in word)
        weight = _weight(values.get("q", "1"))
        if name != kind:
            best = max(best, weight)
        elif values.get("version", "").strip('"') in VERSIONS:
            wanted = max(wanted, weight)
    return wanted > 0.0 and wanted >= best


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0.0 <= weight <= 1.0 else 0.0
