"""The requests of a soak and how clients send them, drawn from a seed. No I/O.

The prompt of each request has a token, `id=NUMBER;`, at its beginning and at its end. The answer
repeats it with a running number in each piece, so that whoever reads the answer sees whose it is
and whether anything is missing or doubled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

MODEL = "soak"
CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
PATHS, PATH_WEIGHTS = (CHAT, COMPLETIONS, EMBEDDINGS), (60, 25, 15)
CLASSES = ("default", "default", "interactive", "batch", "best-effort")
CALLERS = 7
PROMPT_BYTES, PROMPT_WEIGHTS = (20, 200, 2_000, 12_000), (30, 40, 25, 5)
LARGE_BODY_BYTES = 200_000  # of a field that costs the engine no prefill, as of a picture
LARGE_PIECE_BYTES = 4_096
MISTAKES = ("json", "model", "class", "path")
# How clients come, and shares of all visits: on a kept connection, on a new one, with several
# requests in one write, closing the connection early (with one request or several), reading slowly.
MANNERS = ("kept", "new", "pipelined", "leaving", "leaving pipeline", "slow")
MANNER_WEIGHTS = (70, 19, 3, 6, 1, 0.5)
MISTAKEN, LARGE = 0.01, 0.01  # shares of the requests
LEAVE_WITHIN_S = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request.

    number: of the request, from 1. pieces: of its answer, each a token or an event; 1 for an
    embedding. padding: bytes that each piece has besides. filler: bytes of a large body. mistake:
    what is wrong with it, one of `MISTAKES`; empty if nothing is.
    """

    number: int
    path: str = CHAT
    stream: bool = False
    pieces: int = 1
    padding: int = 0
    prompt: int = 20
    filler: int = 0
    caller: int = 0
    slo_class: str = "default"
    mistake: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What a client does on one connection at a stretch.

    asks: in one write. keep: whether it takes a kept connection and leaves it open. leave_s: when
    the client closes the connection, whatever has come until then; `None`: when all is answered.
    sent: share of the bytes that it sends. slow: whether it reads slowly.
    """

    asks: tuple[Question, ...]
    keep: bool = True
    leave_s: float | None = None
    sent: float = 1.0
    slow: bool = False


def visits(seed: int, requests: int) -> Iterator[Visit]:
    """Visits until so many requests are sent; the same for the same seed."""
    random, number = Random(seed), 0
    while number < requests:
        (manner,) = random.choices(MANNERS, MANNER_WEIGHTS)
        count = random.choice((2, 3, 4)) if "pipeline" in manner else 1
        count = min(count, requests - number)
        asks = tuple(_ask(random, number + n + 1) for n in range(count))
        number += count
        if "leaving" in manner:
            sent = random.random() if random.random() < 0.25 else 1.0
            leave_s = random.random() * LEAVE_WITHIN_S
            yield Visit(asks=asks, keep=False, leave_s=leave_s, sent=sent)
        elif manner == "slow":
            yield Visit(asks=(_long(asks[0]),), keep=False, slow=True)
        else:
            yield Visit(asks=asks, keep=manner != "new")


def body(ask: Question) -> bytes:
    """The JSON of a request."""
    token = f"id={ask.number};"
    text = token + " word" * (ask.prompt // 5) + token
    prompts = {
        CHAT: '"messages":[{"role":"user","content":"%s"}]',
        COMPLETIONS: '"prompt":"%s"',
        EMBEDDINGS: '"input":"%s"',
    }
    model = "unknown" if ask.mistake == "model" else MODEL
    fields = [f'"model":"{model}"', prompts[ask.path] % text]
    if ask.path != EMBEDDINGS:
        fields += [f'"max_tokens":{ask.pieces}', f'"stream":{str(ask.stream).lower()}']
    if ask.padding:
        fields.append(f'"padding":{ask.padding}')
    if ask.filler:
        fields.append('"filler":"' + "x" * ask.filler + '"')
    return ("{" + ",".join(fields) + ("" if ask.mistake == "json" else "}")).encode()


def message(ask: Question) -> bytes:
    """The whole HTTP request."""
    content = body(ask)
    path = "/v1/unknown" if ask.mistake == "path" else ask.path
    slo_class = "unknown" if ask.mistake == "class" else ask.slo_class
    lines = [
        f"POST {path} HTTP/1.1",
        "host: soak",
        "content-type: application/json",
        f"content-length: {len(content)}",
        f"authorization: Bearer caller-{ask.caller}",
        f"x-request-id: {ask.number}",
    ]
    if slo_class != "default":
        lines.append(f"x-cuvee-slo-class: {slo_class}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + content


def piece(number: int, index: int, padding: int = 0) -> str:
    """One piece of the answer to a request."""
    return f"id={number}.{index};" + "-" * padding


def _ask(random: Random, number: int) -> Question:
    (path,) = random.choices(PATHS, PATH_WEIGHTS)
    generates = path != EMBEDDINGS
    return Question(
        number=number,
        path=path,
        stream=generates and random.random() < 0.5,
        pieces=random.randint(1, 10) if generates else 1,
        prompt=random.choices(PROMPT_BYTES, PROMPT_WEIGHTS)[0],
        filler=LARGE_BODY_BYTES if random.random() < LARGE else 0,
        caller=random.randrange(CALLERS),
        slo_class=random.choice(CLASSES),
        mistake=random.choice(MISTAKES) if random.random() < MISTAKEN else "",
    )


def _long(ask: Question) -> Question:
    """The same client's request for a long answer."""
    return Question(
        number=ask.number, stream=True, pieces=40, padding=LARGE_PIECE_BYTES, caller=ask.caller
    )
