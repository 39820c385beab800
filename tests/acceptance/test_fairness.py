"""Tokens share the slots of a worker: one whose hosts hang delays no other's tasks, though both name hosts that nothing
is known of."""

import asyncio
import time
from pathlib import Path

from aiohttp import web

from redis_scheduler.store.client import RedisClient
from tests.chaos.figures import Spread
from tests.support.receiver import Receiver, receiving
from tests.support.service import Client, client_of, serving
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

HOSTS, TASKS_EACH = 100, 3
STEADY, STEADY_PER_S = 60, 20
SLOTS = 50


def webhook(number: int, port: int) -> str:
    """Return a URL of one of many hosts that are all this machine."""
    return f"http://127.5.0.{1 + number % HOSTS}:{port}/"


async def test_a_token_whose_hosts_hang_delays_no_other(redis_url: str, client: RedisClient, tmp_path: Path) -> None:
    has_healed = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await has_healed.wait()
        return web.Response()

    settings = {"CONCURRENCY": str(SLOTS), "TIMEOUT": "60", "PROCESSES": "1"}
    async with (
        receiving(everywhere=True) as hanging,
        receiving() as steady,
        serving(tmp_path, REDIS_URL=redis_url, **settings) as process,
        client_of(process, await make_token(client, "schedule")) as flooding,
    ):
        hanging.behaviour = hang
        other = flooding.with_token(await make_token(client, "schedule"))
        tasks = [{"webhook": webhook(number, hanging.port), "ttl": 0} for number in range(HOSTS * TASKS_EACH)]
        assert (await flooding.call("POST", "/schedules", json={"tasks": tasks}))[0] == 200
        await wait_until(lambda: hanging.in_flight > SLOTS // 2, "its hosts hang")

        due_at = {}
        for _ in range(STEADY):
            due_at[await other.schedule(steady.url, 0)] = time.time()
            await asyncio.sleep(1 / STEADY_PER_S)  # its pace
        await wait_until(lambda: len(steady.arrivals) >= STEADY, "the other's tasks have come", 40)
        late = Spread.of(arrival.at - due_at[arrival.key] for arrival in steady.arrivals)
        assert late.p99 < 1, late
        assert SLOTS // 2 < hanging.most_in_flight < SLOTS
        has_healed.set()
        hanging.behaviour = None
        await wait_until(lambda: len(hanging.times_by_key) == len(tasks), "what hung is delivered, too", 60)


async def test_a_claim_that_stands_in_its_workers_line_says_so(
    redis_url: str, client: RedisClient, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.delay_s = 0.2  # in time, so that the line stays
    settings = {"CONCURRENCY": "4", "PROCESSES": "1"}
    async with serving(tmp_path, REDIS_URL=redis_url, **settings) as process, client_of(process) as api:
        tasks = [{"webhook": receiver.url, "ttl": 0} for _ in range(600)]
        assert (await api.call("POST", "/schedules", json={"tasks": tasks}))[0] == 200

        says = f" in its line for 127.0.0.1:{receiver.port}, behind "

        async def said_to(reader: Client) -> list[str]:
            _, found = await reader.call("GET", "/schedules?state=in%20delivery&limit=10")
            shown = [(await reader.call("GET", f"/schedule/{one['info']['key']}"))[1] for one in found["data"]]
            return [one["data"]["info"].get("waits_for", "") for one in shown if "data" in one]

        async def is_said() -> bool:
            return any(says in one for one in await said_to(api))

        await wait_until(is_said, "a claim says that it stands in line", 30)
        may_read = api.with_token(await make_token(client, "read"))
        said = await said_to(may_read)
        assert said
        assert not any(says in one for one in said)  # what runs for a host is not for every token
