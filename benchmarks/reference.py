"""The clients that the service is compared with. Each posts all bodies, `concurrency` of them under way at any
moment."""

from collections.abc import Sequence

import aiohttp
from yarl import URL

from benchmarks import load
from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.delivery.request import KEY_HEADER
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.record import Record
from redis_scheduler.task.webhook import split

KEY = "0123456789012345678901"


def session() -> aiohttp.ClientSession:
    """Return a session that is as fast as aiohttp's gets, not as it comes: without what costs a client time without
    need (cookies, headers of its own, timers, a limit of connections)."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        headers={"Content-Type": "application/json"},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        auto_decompress=False,
    )


async def post_with_aiohttp(url: str, bodies: Sequence[bytes], concurrency: int) -> None:
    """A bare aiohttp client: no queue, no time-outs, nothing to write down, one session for all.

    It sends less than a delivery has to: no key, no attempt number.
    """
    remaining = iter(bodies)
    webhook = URL(url)

    async def post() -> None:
        for body in remaining:
            async with shared.post(webhook, data=body) as response:
                await response.read()
                response.raise_for_status()

    async with session() as shared:
        await load.together(post, concurrency)


async def post_with_deliverer(webhooks: Sequence[str], bodies: Sequence[bytes], concurrency: int) -> None:
    """The part of the service that posts, and nothing else of it: no Redis, no slots, nothing to write down."""
    records = [
        Record(0, webhook, 0, None, body, None, *split(webhook)) for webhook, body in zip(webhooks, bodies, strict=True)
    ]
    remaining = iter(records)

    async def post() -> None:
        for record in remaining:
            outcome = await deliverer.attempt(Claim("0-0", KEY, record, 0))
            assert outcome.error is None, outcome

    async with Deliverer("token", timeout_s=10) as deliverer:
        await load.together(post, concurrency)


async def post_raw(url: str, bodies: Sequence[bytes], concurrency: int) -> None:
    """The least a client can be: ready-made bytes, next to no parser. What the receiver takes from it is its limit."""
    headers = {KEY_HEADER: KEY}
    await load.exchange(url, [load.request("POST", url, body, headers) for body in bodies], concurrency)
