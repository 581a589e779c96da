"""Prints the tables of docs/http.md: `python -m loadtest.framing`."""

import asyncio

from loadtest.framing import gateway, peers
from loadtest.framing.corpus import REPLIES, REQUESTS
from loadtest.framing.outcome import reply_outcome, request_outcome


async def request_tables() -> dict[str, dict[str, str]]:
    """Outcomes of requests, by server and case."""
    found = {}
    async with gateway.echo_port() as echo:
        for name in ["cuvee", *peers.found()]:
            if name == "cuvee":
                found[name] = await requests(echo)
            else:
                async with peers.peer_port(name, echo) as port:
                    found[name] = await requests(port)
    return found


async def requests(port: int) -> dict[str, str]:
    """Outcomes of all requests, at the same time."""
    outcomes = [request_outcome(port, data) for data, _ in REQUESTS.values()]
    return dict(zip(REQUESTS, await asyncio.gather(*outcomes), strict=True))


async def reply_tables() -> dict[str, dict[str, str]]:
    """Outcomes of replies, by proxy and case."""
    proxies = [name for name in peers.found() if name in peers.PROXIES]
    found: dict[str, dict[str, str]] = {name: {} for name in ["cuvee", *proxies]}
    for case, (reply, _) in REPLIES.items():
        async with gateway.reply_port(reply) as backend:
            found["cuvee"][case] = await gateway.pool_outcome(backend)
            for name in proxies:
                async with peers.peer_port(name, backend) as port:
                    found[name][case] = await reply_outcome(port)
    return found


def table(outcomes: dict[str, dict[str, str]]) -> str:
    """The outcomes in Markdown: a line for each case, a column for each server; `=` where it is
    that of the gateway."""
    ours = outcomes["cuvee"]
    lines = ["| case | " + " | ".join(outcomes) + " |", "|---" * (1 + len(outcomes)) + "|"]
    for case, outcome in ours.items():
        others = (
            "=" if them[case] == outcome else them[case] for them in list(outcomes.values())[1:]
        )
        lines.append("| " + " | ".join((case, outcome, *others)) + " |")
    return "\n".join(lines)


async def main() -> None:
    """Print both tables."""
    print(table(await request_tables()), table(await reply_tables()), sep="\n\n")


if __name__ == "__main__":
    asyncio.run(main())
