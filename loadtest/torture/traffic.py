"""The clients of a simulated world: arrivals whose rate changes, sizes, patience, connections that
are used again. Chance is a seed."""

import asyncio
from math import inf
from random import Random

from loadtest.torture.client import TorturingClient
from loadtest.torture.control import HOST, PORT
from loadtest.torture.ledger import Ask, Ledger
from loadtest.torture.setting import FIRST, SIZES, Setting
from loadtest.torture.virtual_loop import VirtualLoop

IDLE_CLIENTS = 20  # idle connections kept
LEAVES = 0.06  # share of the clients that leave before the end
SLOW = 0.02
LIGHT, LIGHT_S = 0.6, 60.0  # the load is low if it was no higher for so long
LONGEST_S = 400.0  # a request that is open for longer hangs
# (load in capacities, mean seconds, share of the phases).
PHASES = (
    (0.08, 300.0, 0.4), (0.3, 120.0, 0.25), (0.6, 60.0, 0.2), (1.1, 30.0, 0.08), (2.5, 20.0, 0.07)
)  # fmt: skip


class TorturingTraffic:
    """Sends requests until it is stopped.

    load: of now, in capacities of the engines in use. poison: share of the requests that are
    poisonous; all of one caller.
    """

    def __init__(self, random: Random, loop: VirtualLoop, ledger: Ledger, setting: Setting) -> None:
        self._random, self._loop, self._ledger, self._setting = random, loop, ledger, setting
        self._idle: list[TorturingClient] = []
        self._clients: dict[TorturingClient, None] = {}
        self._number = 0
        self._stopped = False
        self._sizes = [size for size, _ in SIZES]
        self._shares = [share for _, share in SIZES]
        self.load, self.poison = 0.1, 0.0
        self._busy_at_s = 0.0

    async def run(self) -> None:
        """Send requests, in phases of another load each."""
        while not self._stopped:
            phase = self._random.choices(PHASES, [share for *_, share in PHASES])[0]
            self.load, mean_s, _ = phase
            until_s = self._loop.time() + self._random.expovariate(1 / mean_s)
            self._ledger.note(f"load {self.load:g} for {until_s - self._loop.time():.0f} s")
            rate = self.load * sum(
                len(hosts) * self._setting.capacity(pool)
                for pool, hosts in self._setting.used.items()
            )
            while not self._stopped:
                gap_s = self._random.expovariate(rate)
                if self._loop.time() + gap_s > until_s:
                    await asyncio.sleep(max(0.0, until_s - self._loop.time()))
                    break
                await asyncio.sleep(gap_s)
                if not self._stopped:
                    await self._send(self._ask())

    def stop(self) -> None:
        """Send no more."""
        self._stopped = True

    def close(self) -> None:
        """Close all connections."""
        for client in tuple(self._clients):
            client.leave()
        self._clients.clear()

    def all_leave(self) -> None:
        """All clients of now leave at once."""
        self.close()
        self._idle.clear()

    def _ask(self) -> Ask:
        random, models = self._random, self._setting.models()
        self._number += 1
        (input_tokens, output_tokens) = random.choices(self._sizes, self._shares)[0]
        model = FIRST if len(models) == 1 or random.random() < 0.8 else list(models)[1]
        classes = models[model]
        weights = [0.7, *[0.2] * (len(classes) - 2), 0.1]
        poison = self.poison > 0 and random.random() < self.poison
        return Ask(
            f"r{self._number}",
            model=model,
            slo_class=random.choices(classes, weights)[0],
            caller="mallory" if poison else random.choice(("ann", "bob", "cyd")),
            input_tokens=max(8, round(input_tokens * random.uniform(0.7, 1.3))),
            output_tokens=max(2, round(output_tokens * random.uniform(0.7, 1.3))),
            stream=random.random() < 0.8,
            leaves_s=random.expovariate(1 / 4.0) if random.random() < LEAVES else inf,
            poison=poison,
            slow=random.random() < SLOW,
        )

    async def _send(self, ask: Ask) -> None:
        self._ledger.now_s = now_s = self._loop.time()
        if self.load > LIGHT:
            self._busy_at_s = now_s
        ask.light = now_s - self._busy_at_s > LIGHT_S
        while self._idle:
            client = self._idle.pop()
            if client.idle:
                client.send(ask)
                return
        try:
            _, protocol = await self._loop.create_connection(
                lambda: TorturingClient(self._ledger, self._on_idle), HOST, PORT
            )
        except ConnectionRefusedError:  # all workers are dead at this moment
            self._ledger.counts["refused connections"] += 1
            self._ledger.note(f"{ask.id}: connection refused")
            return
        assert isinstance(protocol, TorturingClient)
        if len(self._clients) > 500:
            self._clients = {client: None for client in self._clients if client.open}
        self._clients[protocol] = None
        protocol.send(ask)

    def _on_idle(self, client: TorturingClient) -> None:
        if len(self._idle) < IDLE_CLIENTS and self._random.random() < 0.7 and not self._stopped:
            self._idle.append(client)
        else:
            client.leave()
