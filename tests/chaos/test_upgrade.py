"""A rolling upgrade from a version before shards, under load: its workers and API run beside new ones, with one shard
and then with four."""

import asyncio
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import pytest
import redis.asyncio

from tests.chaos.accounts import Sent
from tests.chaos.attempts import Attempts
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, scaled
from tests.chaos.several import checking, end, shard_of, spread
from tests.support.receiver import Receiver
from tests.support.redis_process import redis_process
from tests.support.service import Client, Process, client_of
from tests.support.shards import hold_at_once

OLD = "d9f60b8d"
"""The commit of the version before."""

ROOT = Path(__file__).parents[2]
SHARDS = 4
LOAD, RATE = scaled(2_000, 150), scaled(200, 100)
WAITING = scaled(600, 60)
"""Tasks that the old version schedules, and that are there until the end."""


def _git(*arguments: str) -> bytes | None:
    """What git says of this repository; None where it does not know the commit, or is not here."""
    if not shutil.which("git"):
        return None
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


@pytest.fixture
def old_version(tmp_path: Path) -> list[str]:
    """What a command begins with that runs the old version."""
    archive = _git("archive", OLD, "src")
    if archive is None:
        pytest.skip(f"needs git, and a history that reaches back to {OLD}")
    (tmp_path / "old").mkdir()
    subprocess.run(["tar", "-x", "-C", tmp_path / "old"], input=archive, check=True)
    return ["env", f"PYTHONPATH={tmp_path / 'old/src'}"]


@pytest.mark.long
@pytest.mark.case("41", "a rolling upgrade from a version before shards, under load, to one shard and to four")
async def test_old_and_new_versions_share_the_work(
    old_version: list[str], tmp_path: Path, receiver: Receiver, figures: Figures
) -> None:
    async with (
        redis_process(tmp_path / "redis") as server,
        checking(tmp_path, server.url, [server.url] * SHARDS, receiver, figures) as checker,
    ):
        receiver.behaviour = Attempts(failures=lambda n: int(n % 4 == 0), seconds=lambda n: n % 7 / 50)
        checker.prefix = old_version
        old_api, old_worker, other_old = [
            await checker.start(role, RETRY_TIME="1") for role in ("api", "worker", "worker")
        ]
        assert "shards" not in (old_api.events("started"))[0]
        waiting = await checker.load(old_api, WAITING, lambda n: 3_600 + n)
        checker.prefix = []

        # The workers come first, then the API; each beside those of the old version.
        old_load = asyncio.create_task(load(checker, old_api))
        worker, api = [await checker.start(role, RETRY_TIME="1") for role in ("worker", "api")]
        await asyncio.gather(old_load, load(checker, api), in_order(checker, api, waiting[::3]))
        await asyncio.gather(load(checker, old_api), end(other_old))
        await end(old_api)

        # Four shards, while a worker still knows but one.
        figures.note(of_one_shard=len(checker.sent))
        await end(worker, api)
        worker, api = [await checker.start(role, SHARDS=str(SHARDS), RETRY_TIME="1") for role in ("worker", "api")]
        async with client_of(api) as client, redis.asyncio.Redis.from_url(server.url, protocol=2) as raw:
            await hold_at_once(raw, SHARDS)
            await spread(checker, api, SHARDS)
            tasks = await load(checker, api)
            assert {shard_of(task, SHARDS) for task in tasks} == {*range(SHARDS)}
            await asyncio.gather(load(checker, api), end(old_worker), in_order(checker, api, waiting[1::3]))
            await due_now(client, [task for task in waiting if not task.may_be_gone])
        await checker.drained()
        assert [process.process.poll() for process in (worker, api)] == [None, None]
        for arrival in receiver.arrivals:
            arrival.headers.pop("Schedule-Due", None)  # which the old version does not send
        verdict = await checker.verdict()
        assert verdict.unknown == 0
        assert not any(process.events("fault") for process in checker.processes)


async def load(checker: Checker, api: Process) -> list[Sent]:
    return await checker.load(api, LOAD, lambda n: n % 5 / 10, rate=RATE)


async def in_order(checker: Checker, api: Process, tasks: list[Sent]) -> None:
    """See that what the old version scheduled is read, listed and updated; cancel half of it."""
    async with client_of(api) as client:
        listed = {one["info"]["key"] for one in (await client.call("GET", "/schedules"))[1]["data"]}
        assert {task.key for task in tasks} <= listed
        for task in tasks:
            assert (await client.call("GET", f"/schedule/{task.key}"))[0] == 200
            assert (await client.call("PATCH", f"/schedule/{task.key}", json={"ttl": 1_800}))[0] == 200
    await checker.cancel(api, tasks[::2])


async def due_now(client: Client, tasks: list[Sent]) -> None:
    """Have tasks be due at once."""
    for task in tasks:
        status, answer = await client.call("PATCH", f"/schedule/{task.key}", json={"ttl": 0})
        assert status == 200, answer
        task.due_at = datetime.fromisoformat(answer["due"]).timestamp()
