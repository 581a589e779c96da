"""The contents of the configuration file over a soak, drawn from a seed. No I/O."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from random import Random
from typing import Any

REFUSED = "a file that cannot be used"
NAMES = ("price", "promise", "backend", "queue", "weights", REFUSED)


def revisions(seed: int, raw: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Without end: what is changed, and the file. Each is the first file with one change, so that
    all other changes are taken back."""
    random = Random(f"revisions {seed}")
    while True:
        name, changed = random.choice(NAMES), deepcopy(dict(raw))
        pool = changed["pools"][random.choice(list(changed["pools"]))]
        if name == "price":
            pool["usd_per_hour"] = random.uniform(1.0, 4.0)
        elif name == "promise":
            (model,) = changed["models"].values()
            model["classes"]["interactive"]["ttft_s"] = random.uniform(1.0, 2.5)
        elif name == "backend" and len(pool["backends"]) > 1:
            pool["backends"] = pool["backends"][:-1]
        elif name == "queue":
            changed["gateway"]["queue_requests"] = random.randint(256, 1024)
        elif name == "weights":
            changed["gateway"]["caller_weights"] = {f"{random.randrange(7)}": 2.0}
        elif name == REFUSED:
            pool["profile"] = "no-such/profile"
        yield name, changed
