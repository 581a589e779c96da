"""What the sources of a configuration find now, once: for a look at it before it serves."""

import asyncio

from gateway.config.addresses import own_ends
from gateway.config.load import Loaded
from gateway.discovery.join import joined
from gateway.discovery.source import Found, Source
from gateway.discovery.sources import wanted


async def glance(
    loaded: Loaded, timeout_s: float
) -> tuple[dict[str, tuple[str, ...]], dict[str, str], tuple[str, ...]]:
    """Base URLs by pool of the pools with sources, those of the file first; why a look failed, by
    source; and what was seen and is not used."""
    sources = tuple(wanted(loaded).values())
    answers = await asyncio.gather(*(_first(source, timeout_s) for source in sources))
    found = dict[str, tuple[str, ...]]()
    failed, remarks = dict[str, str](), list[str]()
    for source, answer in zip(sources, answers, strict=True):
        found |= dict.fromkeys(source.pools, ())
        if isinstance(answer, Found):
            found |= {pool: urls for pool, urls in answer.urls.items() if pool in source.pools}
            remarks += [f"{source.name}: {line}" for line in answer.remarks]
        else:
            failed[source.name] = answer
    urls, left_out = joined(loaded.config.pools, found, own_ends(loaded.config.gateway))
    return urls, failed, (*remarks, *left_out)


async def _first(source: Source, timeout_s: float) -> Found | str:
    """What the first look of a source finds, or why it failed."""
    answer: asyncio.Future[Found | str] = asyncio.get_running_loop().create_future()

    def tell(what: Found | str) -> None:
        if not answer.done():
            answer.set_result(what)

    looking = asyncio.ensure_future(source.run(tell, tell))
    try:
        async with asyncio.timeout(timeout_s):
            return await answer
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    finally:
        looking.cancel()
