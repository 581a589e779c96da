"""The configuration of a simulated gateway, drawn by chance, and how it changes while it runs. What
the gateway reads is a real file, so that a change takes the way that a user's takes."""

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml

from gateway.config.load import Loaded, load
from loadtest.torture.engine import PORT
from planner.engine.profiles import Profile, find_profile
from planner.slo import Slo

FIRST, SECOND = "alpha", "beta"  # models
PROFILES = {"a10g": "A10G", "a100": "A100-80G", "h100": "H100", "l4": "L4", "l4b": "L4"}
MODELS = {"a10g": FIRST, "a100": FIRST, "h100": FIRST, "l4": SECOND, "l4b": SECOND}
MOST = 4  # engines of a pool
DEFAULT, BATCH = {"ttft_s": 2.0, "tpot_s": 0.12}, {"ttft_s": 30.0, "tpot_s": 0.5}
# (input, output) tokens and their share of the requests.
SIZES = (((200, 64), 0.3), ((512, 128), 0.35), ((1500, 200), 0.2), ((4000, 100), 0.05),
         ((300, 600), 0.1))  # fmt: skip


def profile_of(pool: str) -> Profile:
    """The profile of a pool's engines."""
    return find_profile(f"llama-3-8b/{PROFILES[pool]}", Path())


def url(host: str) -> str:
    return f"http://{host}:{PORT}"


class Setting:
    """The configuration of a world.

    hosts: of all engines that there may ever be, by pool. loaded: the configuration of now.
    """

    def __init__(self, random: Random, folder: Path) -> None:
        """folder: for the file."""
        self._random = random
        self._path = folder / "gateway.yaml"
        self.hosts = {pool: [f"{pool}-{n}" for n in range(MOST)] for pool in PROFILES}
        counts = {"a10g": random.randint(2, 4), "a100": random.randint(0, 2)}
        if random.random() < 0.4:
            counts["l4"] = random.randint(2, 3)
        self._used = {pool: self.hosts[pool][:count] for pool, count in counts.items() if count}
        self._batch = random.random() < 0.5
        self._default = dict(DEFAULT)
        self._per_octave = 1
        self._gateway: dict[str, Any] = {
            "workers": random.choice((1, 1, 2, 3)),
            "request_log": 1.0,
            "connect_timeout_s": 1.0,
            "first_byte_timeout_s": 30.0,
            "unary_timeout_s": 120.0,
            "idle_timeout_s": 15.0,
            "queue_timeout_s": 20.0,
            "health_interval_s": random.choice((2.0, 5.0)),
            "health_timeout_s": 1.5,
            "sse_keepalive_s": random.choice((None, 5.0)),
        }
        self.loaded = self._load()

    @property
    def used(self) -> dict[str, tuple[str, ...]]:
        """The hosts in the configuration, by pool."""
        return {pool: tuple(hosts) for pool, hosts in self._used.items()}

    def promise(self, model: str, slo_class: str) -> Slo | None:
        """What is promised now."""
        for known in self.loaded.buckets.classes:
            if known.model == model and known.name == slo_class:
                return known.slo
        return None

    def models(self) -> dict[str, tuple[str, ...]]:
        """The SLO classes that may be asked for, by model; those without a promise last."""
        second = {SECOND: ("default", "best-effort")} if "l4" in self._used else {}
        batch = ("batch",) if self._batch else ()
        return {FIRST: ("default", *batch, "best-effort")} | second

    def capacity(self, pool: str) -> float:
        """Requests/s of the usual sizes that one engine of a pool serves within its promise."""
        profile, slo = profile_of(pool), Slo(**DEFAULT)
        inputs, outputs = np.array([size for size, _ in SIZES], dtype=float).T
        rate = np.maximum(profile.capacity(inputs, outputs, slo).rate, 1e-3)
        return float(1.0 / (np.array([share for _, share in SIZES]) / rate).sum())

    def change(self) -> tuple[str, Loaded]:
        """Change one thing; return what, and the new configuration."""
        what = self._random.choice(
            ("add", "add", "remove", "remove", "pool", "class", "slo", "grid", "timeouts")
        )
        pool = self._random.choice(list(self._used))
        spare = [host for host in self.hosts[pool] if host not in self._used[pool]]
        if what == "add" and spare:
            self._used[pool].append(spare[0])
        elif what == "remove" and len(self._used[pool]) > 2:
            self._used[pool].remove(self._random.choice(self._used[pool]))
        elif what == "pool" and "h100" in self._used:
            del self._used["h100"]
        elif what == "pool":
            self._used["h100"] = self.hosts["h100"][:1]
        elif what == "class":
            self._batch = not self._batch
        elif what == "slo":
            self._default["tpot_s"] = self._random.choice((0.1, 0.12, 0.15))
        elif what == "grid":
            self._per_octave = 3 - self._per_octave
        elif what == "timeouts":
            self._gateway["retries"] = self._random.choice((1, 2, 3))
        self.loaded = self._load()
        return f"{what} {pool}", self.loaded

    def _load(self) -> Loaded:
        models: dict[str, Any] = {FIRST: {"slo": self._default}}
        if self._batch:
            models[FIRST]["classes"] = {"batch": BATCH}
        if "l4" in self._used:
            models[SECOND] = {"slo": {"ttft_s": 4.0, "tpot_s": 0.2}}
        raw = {
            "models": models,
            "pools": {
                pool: {
                    "model": MODELS[pool],
                    "profile": f"llama-3-8b/{PROFILES[pool]}",
                    "usd_per_hour": 1.0 + len(pool),
                    "backends": [url(host) for host in hosts],
                    "engine": "vllm",
                }
                for pool, hosts in self._used.items()
            },
            "buckets": {"per_octave": self._per_octave},
            "planner": {"interval_s": 120.0, "window_s": 240.0, "patience": 1, "min_requests": 40},
            "gateway": self._gateway,
        }
        self._path.write_text(yaml.safe_dump(raw))
        return load(self._path, environ={})
