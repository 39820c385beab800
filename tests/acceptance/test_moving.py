"""`redis-scheduler export` and `import` as an operator runs them: whatever state a task is in, beside load, and what is
said of bad files."""

import asyncio
import base64
import json
import logging
import os
import stat
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.process.moving import BATCH_BYTES, import_tasks
from redis_scheduler.settings import Settings
from redis_scheduler.store.audit import audit
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP, Keys
from redis_scheduler.store.moves import Moved, Moves, RestoreAnswer
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.tag import tag_of
from redis_scheduler.store.views import Views
from redis_scheduler.store.written import CancelAnswer, Cancellation
from redis_scheduler.task.due import at_ms
from tests.chaos.figures import scaled
from tests.scripts.states import MAKERS, tail
from tests.support.names import KEYS, SHARDS
from tests.support.receiver import Receiver
from tests.support.service import Client, client_of, run, serving
from tests.support.store import Store
from tests.support.waiting import wait_until

OTHER = "moved"
FAR_S = 600


async def command(code: int, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command; it must end so."""
    result = await asyncio.to_thread(run, *arguments, **variables)
    assert result.returncode == code, result
    return result


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def exported(path: Path, **variables: str) -> dict[str, dict[str, Any]]:
    """Export to a file; return each task of it by its key."""
    await command(0, "export", str(path), **variables)
    lines = lines_of(path)
    found = {line["key"]: line for line in lines}
    assert len(found) == len(lines), "a key twice"
    return found


async def assert_sound(url: str, namespace: str) -> int:
    """See that a deployment has no fault; return how many tasks it holds."""
    count = 0
    for number in range(SHARDS):
        client = RedisClient(url, 5, Keys(tag_of(namespace, number), number))
        try:
            assert [finding.text async for finding in audit(client)] == []
            ledger = await Views(client).ledger()
            assert ledger.is_balanced
            count += ledger.running + ledger.dead
        finally:
            await client.aclose()
    return count


async def test_whatever_state_a_task_is_in_it_comes_over(
    redis_url: str, store: Store, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    states = {}
    for name in ("in delivery", "waiting", "paused", "paused retry", "deferred", "dead", "queued", "due"):
        task = await MAKERS[name][0](store, "mail")  # type: ignore[call-arg]
        states[task.key] = {"due": "scheduled", "paused retry": "paused"}.get(name, name)
    before = await exported(tmp_path / "a", REDIS_URL=redis_url)
    assert {key: line["state"] for key, line in before.items()} == states
    # What is left of a retry's delay stays, as all else: `left_ms` is compared below.
    assert [line["left_ms"] > 0 for line in before.values() if "left_ms" in line] == [True]
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600

    there = {"REDIS_URL": redis_url, "NAMESPACE": OTHER}
    result = await command(0, "import", str(tmp_path / "a"), **there)
    assert result.stdout.startswith("Imported 8 tasks; 0 replaced, 0 skipped")
    after = await exported(tmp_path / "b", **there)
    for key, line in before.items():
        waits = {"waiting": "deferred", "queued": "scheduled", "in delivery": "scheduled"}
        found = after[key]
        if "next" in line:
            # A retry stands up to 2 ms later, by how often Redis' clock was set back there.
            assert abs(at_ms(found["next"]) - at_ms(line["next"])) <= 2
            found = found | {"next": line["next"]}
        assert found == line | {"state": waits.get(states[key], states[key])}
    assert await assert_sound(redis_url, OTHER) == 8
    # Nothing is twice, however often it is imported.
    result = await command(0, "import", str(tmp_path / "a"), **there)
    assert result.stdout.startswith("Imported 0 tasks; 0 replaced, 8 skipped")
    assert await exported(tmp_path / "b", **there) == after


async def test_what_comes_over_is_delivered_under_its_key_as_it_was(
    redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    async with serving(tmp_path, "api", REDIS_URL=redis_url) as api, client_of(api) as client:
        key = await client.schedule(receiver.url, FAR_S, "/schedule?type=mail", data={"n": 1})
        plain = await client.schedule(receiver.url, FAR_S)
    await exported(tmp_path / "a", REDIS_URL=redis_url)
    there = {"REDIS_URL": redis_url, "NAMESPACE": OTHER}
    await command(0, "import", str(tmp_path / "a"), "--shift", str(-FAR_S), **there)
    async with serving(tmp_path, **there) as service, client_of(service) as client:
        await client.drained()
    assert {arrival.key: arrival.body for arrival in receiver.arrivals} == {key: b'{"n": 1}', plain: b""}
    assert await assert_sound(redis_url, OTHER) == 0


async def test_a_series_that_was_told_to_run_makes_that_occurrence_where_it_comes_over(
    redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    """Whether it was due already when it was told, paused since, or neither; and its own times stay."""
    there, keys = {"REDIS_URL": redis_url, "NAMESPACE": OTHER, "SHARDS": str(SHARDS)}, {}
    async with serving(tmp_path, "api", REDIS_URL=redis_url) as api, client_of(api) as client:
        for name, ttl, verbs in (
            ("alone", FAR_S, ()),
            ("told", FAR_S, ("run",)),
            ("paused", FAR_S, ("run", "pause")),
            ("due", 0, ("run",)),
        ):
            key = await client.schedule(receiver.url + name, ttl, repeat={"every": FAR_S})
            keys[key] = name
            for verb in verbs:
                assert (await client.call("POST", f"/schedule/{key}/{verb}"))[0] == 200
    lines = await exported(tmp_path / "a", REDIS_URL=redis_url)
    assert {keys[key] for key, line in lines.items() if line.get("run")} == {"told", "paused", "due"}
    await command(0, "import", str(tmp_path / "a"), **there)
    # As it came over, so it goes on.
    moved = await exported(tmp_path / "b", **there)
    assert {key for key, line in moved.items() if line.get("run")} == {key for key in keys if keys[key] != "alone"}
    async with serving(tmp_path, **there) as service, client_of(service) as client:
        await wait_until(lambda: len(receiver.arrivals) == 3, "two told series, and the one that was due")
        [paused] = [key for key, name in keys.items() if name == "paused"]
        assert (await client.call("POST", f"/schedule/{paused}/resume"))[0] == 200
        await wait_until(lambda: len(receiver.arrivals) == 4, "the paused one, too")
        for key in keys:
            status, content = await client.call("GET", f"/schedule/{key}")
            assert status == 200
            later_s = FAR_S if keys[key] == "due" else 0
            assert at_ms(content["data"]["info"]["due"]) - at_ms(lines[key]["due"]) == later_s * 1000
            assert (await client.call("DELETE", f"/schedule/{key}"))[0] == 200
        await client.drained()
    assert Counter(arrival.path for arrival in receiver.arrivals) == {"/told": 1, "/paused": 1, "/due": 2}


@pytest.mark.long
async def test_all_tasks_come_over_while_the_service_runs(redis_url: str, receiver: Receiver, tmp_path: Path) -> None:
    """What waits is moved whole, while other tasks come and are delivered."""
    count = scaled(100_000, 2_000)
    async with serving(tmp_path, REDIS_URL=redis_url, RETRIES="0") as service, client_of(service) as client:
        waiting = await scheduled(client, receiver.url, count, FAR_S)
        is_over = asyncio.Event()
        load = asyncio.create_task(deliver_until(client, receiver.url, is_over))
        try:
            found = await exported(tmp_path / "a", REDIS_URL=redis_url)
            there = {"REDIS_URL": redis_url, "NAMESPACE": OTHER}
            await command(0, "import", str(tmp_path / "a"), **there)
        finally:
            is_over.set()
            short = await load
        assert waiting <= found.keys()
        assert found.keys() - waiting <= short
        assert short
        assert await assert_sound(redis_url, OTHER) == len(found)
        moved = await exported(tmp_path / "b", **there)
        for key in waiting:
            assert moved[key] == found[key]

        async def only_those_wait() -> bool:
            return bool((await client.stats())["running_schedules"] == count)

        await wait_until(only_those_wait, "what was due is delivered", 60, 0.1)
        assert (await client.stats())["ledger_balanced"]
    assert short <= receiver.times_by_key.keys()


async def scheduled(client: Client, url: str, count: int, ttl: float) -> set[str]:
    found: set[str] = set()
    for _ in range(0, count, 100):
        found.update(await asyncio.gather(*(client.schedule(url, ttl, data=number) for number in range(100))))
    return found


async def deliver_until(client: Client, url: str, is_over: asyncio.Event) -> set[str]:
    found: set[str] = set()
    while not is_over.is_set():
        found |= await scheduled(client, url, 100, 0.05)
    return found


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    redis_url: str, store: Store, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    task = await MAKERS["due"][0](store)
    line = (await exported(tmp_path / "a", REDIS_URL=redis_url))[task.key]
    with (tmp_path / "a").open("a") as file:
        file.write(json.dumps(line | {"key": "another"}) + "\n")
    before = await raw.hgetall(KEYS.tasks)
    result = await command(0, "import", str(tmp_path / "a"), "--dry-run", REDIS_URL=redis_url)
    assert result.stdout == (
        "Would have imported 1 task; 0 replaced, 1 skipped since their keys are there; 0 bad lines.\n"
    )
    assert await raw.hgetall(KEYS.tasks) == before


async def test_a_task_is_replaced_only_if_that_is_asked_for(
    redis_url: str, store: Store, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    queued, waits = await MAKERS["queued"][0](store, "mail"), await MAKERS["due"][0](store)  # type: ignore[call-arg]
    lines = await exported(tmp_path / "a", REDIS_URL=redis_url)
    changed = [json.dumps(line | {"data": "new", "type": "bill"}) for line in lines.values()]
    (tmp_path / "b").write_text("\n".join(changed))
    await command(0, "import", str(tmp_path / "b"), REDIS_URL=redis_url)
    assert await exported(tmp_path / "a", REDIS_URL=redis_url) == lines
    result = await command(0, "import", str(tmp_path / "b"), "--replace", REDIS_URL=redis_url)
    assert result.stdout.startswith("Imported 0 tasks; 2 replaced")
    after = await exported(tmp_path / "a", REDIS_URL=redis_url)
    assert {key: (line["data"], line["type"], line["state"]) for key, line in after.items()} == dict.fromkeys(
        (queued.key, waits.key), ("new", "bill", "scheduled")
    )
    assert await raw.smembers(KEYS.types) == {b"bill"}


async def test_what_a_client_schedules_while_it_is_replaced_stays(
    redis_url: str,
    store: Store,
    raw: redis.asyncio.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    task, other = await MAKERS["due"][0](store), await MAKERS["due"][0](store)
    await exported(tmp_path / "a", REDIS_URL=redis_url)
    cancel = Moves.cancel

    async def cancel_and_come_between(moves: Moves, tasks: Sequence[Cancellation]) -> list[CancelAnswer]:
        answers = await cancel(moves, tasks)
        await store.schedule([NewTask(task.key, 60_000, tail(60_000, data=b'"newer"'), None)])
        return answers

    monkeypatch.setattr(Moves, "cancel", cancel_and_come_between)
    try:
        assert await import_tasks(Settings(redis_url=redis_url), str(tmp_path / "a"), 0, True, False)
    finally:
        logging.disable(logging.NOTSET)  # a command silences the modules of its process
    assert capsys.readouterr().out.startswith("Imported 0 tasks; 1 replaced, 1 skipped since their keys are there")
    kept = await raw.hgetall(KEYS.tasks)
    assert b'"newer"' in kept[task.key.encode()]
    assert b'"newer"' not in kept[other.key.encode()]


async def test_no_call_of_an_import_has_many_bytes(
    redis_url: str, store: Store, raw: redis.asyncio.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis serves nobody else while it stores them: records and failures count, and what is larger goes alone."""
    task = await MAKERS["dead"][0](store)
    line = (await exported(tmp_path / "a", REDIS_URL=redis_url))[task.key]
    await raw.flushall()
    failure = line["last_failure"] | {"error": "x" * 14_000}
    lines = [line | {"key": f"data:{number}", "data": "x" * 15_000} for number in range(40)]
    lines += [line | {"key": f"failure:{number}", "last_failure": failure} for number in range(40)]
    lines += [line | {"key": "large", "data": "x" * 2 * BATCH_BYTES}, line | {"key": "last"}]
    (tmp_path / "b").write_text("\n".join(map(json.dumps, lines)))
    restore, calls = Moves.restore, list[tuple[int, int]]()

    async def restore_and_note(moves: Moves, tasks: Sequence[Moved]) -> list[RestoreAnswer]:
        calls.append((len(tasks), sum(len(kept.tail) + len(kept.failure) for kept in tasks)))
        return await restore(moves, tasks)

    monkeypatch.setattr(Moves, "restore", restore_and_note)
    try:
        assert await import_tasks(Settings(redis_url=redis_url), str(tmp_path / "b"), 0, False, False)
    finally:
        logging.disable(logging.NOTSET)  # a command silences the modules of its process
    assert await raw.hlen(KEYS.tasks) == sum(count for count, _ in calls) == len(lines)
    assert [count for count, size in calls if size > BATCH_BYTES] == [1]
    assert len(calls) <= 13


async def test_a_bad_line_is_told_with_its_number_and_keeps_no_other_back(
    redis_url: str, store: Store, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    task = await MAKERS["due"][0](store)
    line = (await exported(tmp_path / "a", REDIS_URL=redis_url))[task.key]
    await raw.flushall()
    lines = [
        json.dumps(line | {"webhook": "nowhere"}),
        "nonsense",
        json.dumps(line),
        "",
        json.dumps(line | {"ttl": -1}),
    ]
    (tmp_path / "b").write_text("\n".join(lines))
    result = await command(1, "import", str(tmp_path / "b"), REDIS_URL=redis_url)
    told = [text.split(":")[:2] for text in result.stderr.splitlines()]
    assert [number for number, _ in told] == ["line 1", "line 2", "line 5"]
    assert [what.strip() for _, what in told] == ["webhook", "is no JSON object", "ttl"]
    assert result.stdout.startswith("Imported 1 task; 0 replaced, 0 skipped since their keys are there; 3 bad lines.")
    assert await raw.hkeys(KEYS.tasks) == [task.key.encode()]


async def test_an_import_takes_no_task_that_the_api_would_not(
    redis_url: str, store: Store, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    task = await MAKERS["due"][0](store)
    line = (await exported(tmp_path / "a", REDIS_URL=redis_url))[task.key]
    await raw.flushall()
    bare, deep = {name: value for name, value in line.items() if name != "data"}, "[" * 256 + "]" * 256
    # As a chain of callbacks with include_data leaves the deepest body that the API takes.
    wrapped = '{"task":' * 8 + "[" * 127 + "]" * 127 + "}" * 8
    lines = [
        json.dumps(line | {"timeout": 600}),
        json.dumps(line | {"timeout": 601}),
        json.dumps(line | {"on_failure": {"webhook": line["webhook"], "timeout": 601}}),
        json.dumps(bare)[:-1] + f',"data":{deep}}}',
        json.dumps(bare | {"data_base64": base64.b64encode(deep.encode()).decode()}),
        json.dumps(line)[:-1] + ',"ttl":2}',
        json.dumps(bare | {"key": "wrapped"})[:-1] + f',"data":{wrapped}}}',
    ]
    (tmp_path / "b").write_text("\n".join(lines))
    result = await command(1, "import", str(tmp_path / "b"), REDIS_URL=redis_url, MAX_TIMEOUT="600")
    deeper = "is nested more than 256 levels deep"
    assert result.stderr.splitlines() == [
        "line 2: timeout: must be at most MAX_TIMEOUT, which is 600, got 601",
        "line 3: on_failure.timeout: must be at most MAX_TIMEOUT, which is 600, got 601",
        *[f"line {number}: {deeper}" for number in (4, 5)],
        "line 6: ttl: is given twice, got 600.0 and 2",
    ]
    assert result.stdout.startswith("Imported 2 tasks;")
    await raw.flushall()
    (tmp_path / "b").write_text(lines[0])
    await raw.xgroup_create(KEYS.queue, GROUP, "0", mkstream=True)
    await raw.xgroup_createconsumer(KEYS.queue, GROUP, "host-4711-0a1b2c3d")
    result = await command(1, "import", str(tmp_path / "b"), REDIS_URL=redis_url)
    assert result.stderr.startswith("line 1: The task has options that the worker host-4711-0a1b2c3d is too old for")
    assert await raw.hlen(KEYS.tasks) == 0
    await raw.flushall()


async def test_an_import_says_which_dead_letters_will_not_stay(
    redis_url: str, store: Store, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    task = await MAKERS["dead"][0](store)
    line = (await exported(tmp_path / "a", REDIS_URL=redis_url))[task.key]
    (tmp_path / "b").write_text(
        "\n".join(json.dumps(line | {"died": f"{year}-01-01T00:00:00Z"}) for year in (2020, 2200))
    )
    result = await command(0, "import", "--dry-run", str(tmp_path / "b"), REDIS_URL=redis_url)
    assert result.stderr.startswith("1 dead letter of the file died longer ago than DEAD_TTL: ")


async def test_a_record_that_cannot_be_moved_is_told_and_left_out(
    redis_url: str, store: Store, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    task, newer = await MAKERS["due"][0](store), await MAKERS["due"][0](store)
    record = b'{"due":1,"webhook":"http://localhost/","ttl":1,"wings":2}'
    await raw.hset(KEYS.tasks, newer.key, record)
    result = await command(1, "export", str(tmp_path / "a"), REDIS_URL=redis_url)
    assert result.stderr.splitlines() == [
        f'{newer.key}: a newer version wrote its member "wings": export it with that version',
        "Exported 1 task (1 scheduled); 1 left out.",
    ]
    assert json.loads((tmp_path / "a").read_text())["key"] == task.key
    await raw.hdel(KEYS.tasks, newer.key)
    await raw.zrem(KEYS.due, newer.key)
    await raw.hincrby(KEYS.counters, "cancelled", 1)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["import", "/nowhere/a"], 1, "/nowhere/a cannot be read: No such file or directory"),
        (["export", "/nowhere/a"], 1, "/nowhere/a cannot be written: No such file or directory"),
        (["import", "--shift", "x"], 2, "argument --shift: must be a number of seconds from -315360000"),
        (["import", "--shift", "nan"], 2, "argument --shift: must be a number of seconds from -315360000"),
    ],
)
async def test_what_cannot_be_done_is_one_line(arguments: list[str], code: int, told: str, redis_url: str) -> None:
    result = await command(code, *arguments, REDIS_URL=redis_url)
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    assert result.stderr.startswith(f"redis-scheduler: {told}")


async def test_a_redis_that_is_away_is_told_and_leaves_no_file(tmp_path: Path) -> None:
    result = await command(1, "export", str(tmp_path / "a"), REDIS_URL="redis://127.0.0.1:1")
    assert result.stderr.startswith("redis-scheduler: Redis ")
    assert await asyncio.to_thread(os.listdir, tmp_path) == []
