"""Shards on servers of their own, and in a cluster: one that is away, or silent, holds up no other."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from redis_scheduler.store.keys import Keys
from redis_scheduler.store.tag import tag_of
from redis_scheduler.task.key import shards_of
from tests.support.audit import plain
from tests.support.receiver import Receiver
from tests.support.redis_process import free_port, redis_process
from tests.support.service import TOKEN, Process, client_of, run, serving
from tests.support.several_redis import asked, cluster_of
from tests.support.shards import scheduled_to_the_last, two_servers
from tests.support.standing_still import standing_still
from tests.support.waiting import wait_until

SHARDS = 4


async def test_two_servers_have_a_shard_each_and_one_that_is_away_holds_up_no_other(
    receiver: Receiver, tmp_path: Path
) -> None:
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        url = f"{one.url},{other.url}"
        async with serving(tmp_path, REDIS_URL=url) as service, client_of(service) as client:
            await scheduled_to_the_last(client, receiver.url, 2)
            later = [await client.schedule(receiver.url, 3_600) for _ in range(6)]
            await wait_until(lambda: len(receiver.arrivals) >= 1, "they are delivered")
            await other.kill()
            await wait_until(lambda: client.accepts(receiver.url), "new tasks pass over it")
            keys = [await client.schedule(receiver.url) for _ in range(10)]
            assert {shards_of(key, (2,))[0] for key in keys} == {0}
            await wait_until(lambda: {*keys} <= {*receiver.times_by_key}, "they are delivered", 5)
            for key in later:
                status, content = await client.call("GET", f"/schedule/{key}")
                if shards_of(key, (2,))[0] == 0:
                    assert status == 200
                else:
                    assert (status, "Shard 1" in str(content)) == (503, True), content
            status, content = await client.call("GET", "/schedules")
            assert (status, "Shard 1" in str(content)) == (503, True), content
            assert (await client.call("GET", "/schedules?shard=0"))[0] == 200
            assert service.events("redis-away")[0]["shard"] == 1
            await other.start()

            async def is_back() -> bool:
                return (await client.call("GET", "/schedules"))[0] == 200

            await wait_until(is_back, "it is back", 10)
        for urls, said in (
            (f"{other.url},{one.url}", "this server holds shard 1, and REDIS_URL names it for shard 0"),
            (f"{one.url},{one.url}", f"REDIS_URL: names 127.0.0.1:{one.port}/0 twice"),
        ):
            process = Process(tmp_path, REDIS_URL=urls, API_AUTH=TOKEN)
            assert await process.ended() in (1, 2)
            assert said in process.log
            assert "Traceback" not in process.log
        done = await asyncio.to_thread(run, "doctor", REDIS_URL=url)
        assert done.returncode == 0, done.stdout + done.stderr


async def test_a_shard_that_answers_nothing_holds_up_no_other(receiver: Receiver, tmp_path: Path) -> None:
    async with two_servers(tmp_path, receiver.url, ttl=0) as (_, other, service, client):
        await client.drained()
        async with standing_still(other.pid):

            async def schedules(count: int) -> Counter[int]:
                calls = [
                    client.call("POST", "/schedule", json={"webhook": receiver.url, "ttl": 0}) for _ in range(count)
                ]
                return Counter(status for status, _ in await asyncio.gather(*calls))

            async def is_noticed() -> bool:
                return (await schedules(1))[503] > 0

            await wait_until(is_noticed, "the API notices")
            for _ in range(20):
                async with asyncio.timeout(1):
                    assert await schedules(5) == {200: 5}
            seen = len(receiver.arrivals)
            key = await client.schedule(receiver.url)
            await wait_until(lambda: receiver.times_by_key[key], "it is delivered", 2)
            assert len(receiver.arrivals) > seen
            assert {event["shard"] for event in service.events("redis-away")} == {1}
        stats = await client.drained()
        assert stats["ledger_balanced"]
    assert {*receiver.times_by_key.values()} == {1}


@pytest.mark.parametrize("how", ["read-only", "killed"])
async def test_commands_name_the_shard_that_they_do_not_reach_and_go_on_in_the_others(how: str, tmp_path: Path) -> None:
    """A replica refuses writes, as one does that a failover has left behind."""
    async with (
        redis_process(tmp_path / "one") as one,
        redis_process(tmp_path / "other") as other,
        redis_process(tmp_path / "last") as last,
    ):
        url = f"{one.url},{other.url},{last.url}"
        async with serving(tmp_path, "api", REDIS_URL=url) as service, client_of(service) as client:
            await scheduled_to_the_last(client, "http://127.0.0.1:9/", 3, 3_600)
        if how == "killed":
            await other.kill()
        else:
            await asked(other, "REPLICAOF", "127.0.0.1", "1")
        said = {"killed": "Redis is not available", "read-only": "READONLY"}[how]
        for command, what in (
            ("doctor", "not examined"),
            ("pause-all", "not paused: try again"),
            ("resume-all", "paused as before: try again"),
        ):
            done = await asyncio.to_thread(run, command, REDIS_URL=url)
            assert done.returncode == 1, done.stdout + done.stderr
            [line] = [line for line in done.stdout.splitlines() if line.startswith("Shard 1 is away")]
            assert line.startswith(f"Shard 1 is away, and {what} ("), line
            assert said in line
            if command == "doctor":
                assert done.stdout.count("Nothing is wrong") == 2
            for number, server in ((0, one), (2, last)):
                is_paused = await asked(server, "EXISTS", Keys(tag_of("", number), number).pause_all)
                assert is_paused == (command == "pause-all")
        file = tmp_path / "tasks.ndjson"
        done = await asyncio.to_thread(run, "export", str(file), REDIS_URL=url)
        assert (done.returncode, file.exists()) == (1, False)
        [line] = done.stderr.splitlines()
        assert line.startswith("redis-scheduler: Shard 1: "), line
        assert said in line


async def test_a_first_list_in_the_wrong_order_leaves_nothing_behind(tmp_path: Path) -> None:
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        async with serving(tmp_path, "api", REDIS_URL=one.url) as service, client_of(service) as client:
            await client.schedule("http://127.0.0.1:9/", 3_600)
        process = Process(tmp_path, REDIS_URL=f"{other.url},{one.url}", API_AUTH=TOKEN)
        assert await process.ended() in (1, 2)
        assert "this server holds shard 0, and REDIS_URL names it for shard 1" in process.log
        assert await asked(other, "KEYS", "*") == []
        async with serving(tmp_path, REDIS_URL=f"{one.url},{other.url}") as service, client_of(service) as client:
            assert len((await client.call("GET", "/schedules"))[1]["data"]) == 1
            assert await asked(other, "EXISTS", Keys(tag_of("", 1), 1).server) == 1


async def test_a_wrong_list_is_one_line_that_names_the_server(tmp_path: Path) -> None:
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        async with serving(tmp_path, REDIS_URL=f"{one.url},{other.url}"):
            pass
        before = [{*await asked(server, "KEYS", "*")} for server in (one, other)]
        wrong = f"{other.url},{one.url}"
        said = f"redis-scheduler: REDIS_URL: 127.0.0.1:{other.port}/0: this server holds shard 1, and REDIS_URL names it for"
        for command in ("doctor", "export", "pause-all", "resume-all", "rekey"):
            done = await asyncio.to_thread(run, command, REDIS_URL=wrong)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
            assert done.stderr.startswith(said)
        process = Process(tmp_path, REDIS_URL=wrong, API_AUTH=TOKEN)
        assert await process.ended() == 1
        assert said in process.log
        assert not process.events("redis-away")
        assert [{*await asked(server, "KEYS", "*")} for server in (one, other)] == before


async def test_a_new_server_in_the_place_of_one_that_has_tasks_is_told_of(tmp_path: Path) -> None:
    """Such as another database of it. A start serves it, since it may have lost its data; no command touches it."""
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        async with serving(tmp_path, REDIS_URL=f"{one.url},{other.url}") as service, client_of(service) as client:
            await scheduled_to_the_last(client, "http://127.0.0.1:9/", 2, 3_600)
        await asyncio.to_thread(run, "export", str(tmp_path / "tasks"), REDIS_URL=f"{one.url},{other.url}")
        told = (
            f"REDIS_URL: 127.0.0.1:{other.port}/1: holds nothing of shard 1, which there was before: unless that has lost "
            "all its data, list the server, or the database, that has it"
        )
        database = f"{other.url[:-1]}1"
        wrong = f"{one.url},{database}"
        async with plain(database) as raw:
            for command in (["doctor"], ["export"], ["import", str(tmp_path / "tasks")], ["pause-all"], ["rekey"]):
                done = await asyncio.to_thread(run, *command, REDIS_URL=wrong)
                assert (done.returncode, done.stdout) == (1, ""), done
                assert done.stderr == f"redis-scheduler: {told}\n"
                assert await raw.keys() == []
            async with serving(tmp_path, REDIS_URL=wrong) as service:
                await wait_until(lambda: raw.exists(Keys(tag_of("", 1), 1).server), "it has its mark")
            assert told in [event["warning"] for event in service.events("hazard")]
        assert (await asyncio.to_thread(run, "doctor", REDIS_URL=wrong)).returncode == 0


async def test_a_server_that_lacks_its_mark_alone_is_the_one_that_it_was(tmp_path: Path) -> None:
    """As where it was too full for a mark when the list grew, or was restored from before that."""
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        urls = f"{one.url},{other.url}"
        async with serving(tmp_path, REDIS_URL=urls) as service, client_of(service) as client:
            await scheduled_to_the_last(client, "http://127.0.0.1:9/", 2, 3_600)
        for number, server in enumerate((one, other)):
            assert await asked(server, "DEL", Keys(tag_of("", number), number).server) == 1
            done = await asyncio.to_thread(run, "doctor", REDIS_URL=urls)
            assert (done.returncode, done.stderr) == (0, "")
            async with serving(tmp_path, REDIS_URL=urls) as service:
                assert not [event for event in service.events("hazard") if "holds nothing" in event["warning"]]


async def test_a_new_server_by_two_names_is_refused_and_nothing_is_left_there(tmp_path: Path) -> None:
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        for urls in (f"redis://localhost:{one.port},{one.url}", f"{other.url},{one.url},redis://localhost:{one.port}"):
            process = Process(tmp_path, REDIS_URL=urls, API_AUTH=TOKEN)
            assert await process.ended() in (1, 2)
            assert "REDIS_URL names it for shard" in process.log
            for server in (one, other):
                assert await asked(server, "KEYS", "*") == []
        async with serving(tmp_path, REDIS_URL=f"{other.url},{one.url}") as service, client_of(service) as client:
            await scheduled_to_the_last(client, "http://127.0.0.1:9/", 2)


async def test_a_list_that_lacks_a_server_or_has_one_too_many_leaves_no_mark(tmp_path: Path) -> None:
    """A mark in the wrong place would have the right list refused."""
    async with (
        redis_process(tmp_path / "one") as one,
        redis_process(tmp_path / "other") as other,
        redis_process(tmp_path / "last") as last,
    ):
        servers, absent = (one, other, last), f"redis://127.0.0.1:{free_port()}"
        right = ",".join(server.url for server in servers)
        async with serving(tmp_path, REDIS_URL=right) as service, client_of(service) as client:
            keys = await scheduled_to_the_last(client, "http://127.0.0.1:9/", 3, 3_600)

        async def marks() -> list[dict[bytes, bytes]]:
            return [
                {key: await asked(one, "GET", key) for key in await asked(one, "KEYS", "*:server")} for one in servers
            ]

        before = await marks()
        file = tmp_path / "tasks.ndjson"
        assert (await asyncio.to_thread(run, "export", str(file), REDIS_URL=right)).returncode == 0
        for urls in (
            f"{one.url},{last.url}",
            f"{absent},{last.url}",
            f"{one.url},{absent},{other.url},{last.url}",
        ):
            for command in (("doctor",), ("pause-all",), ("import", str(file)), ("export", str(tmp_path / "more"))):
                done = await asyncio.to_thread(run, *command, REDIS_URL=urls)
                assert done.returncode == 1, (command, done.stdout)
                assert "redis-scheduler: " in done.stderr
                assert "Traceback" not in done.stderr
            process = Process(tmp_path, REDIS_URL=urls, API_AUTH=TOKEN)
            assert await process.ended() == 1
            assert "redis-scheduler: REDIS_URL: " in process.log
            assert await marks() == before
        async with serving(tmp_path, REDIS_URL=right) as service, client_of(service) as client:
            await wait_until(lambda: client.accepts("http://127.0.0.1:9/"), "it serves")
            for key in keys:
                assert (await client.call("GET", f"/schedule/{key}"))[0] == 200
            assert not service.events("redis-away")


async def test_a_url_of_one_server_that_has_a_shard_of_several_is_refused_there(tmp_path: Path) -> None:
    """The second would look like a new one, and what the first got for a second shard would be lost to the list."""
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        async with serving(tmp_path, REDIS_URL=f"{one.url},{other.url}") as service, client_of(service) as client:
            await scheduled_to_the_last(client, "http://127.0.0.1:9/", 2)
        kept = [{*await asked(server, "KEYS", "*")} for server in (one, other)]
        for server, shards, shard in ((other, "1", None), (one, "2", 1)):
            process = Process(tmp_path, REDIS_URL=server.url, SHARDS=shards, API_AUTH=TOKEN)

            def is_told(process: Process = process, shard: int | None = shard) -> bool:
                return any(event.get("shard") == shard for event in process.events("redis-away"))

            await wait_until(is_told, "it is told")
            await process.stop()
            assert "of several servers: REDIS_URL must list all of them, in their order" in process.log
            assert "Traceback" not in process.log
        assert [{*await asked(server, "KEYS", "*")} for server in (one, other)] == kept


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_server_of_several_that_may_lose_tasks_is_warned_of(processes: str, tmp_path: Path) -> None:
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other", "--appendonly", "no") as other:
        url = f"{one.url},{other.url}"
        async with serving(tmp_path, REDIS_URL=url, PROCESSES=processes) as service:
            [said] = await wait_until(lambda: service.events("redis-configuration"), "it warns")
            assert (said["shard"], said["warning"].partition(":")[0]) == (1, "appendonly is no")


async def test_shards_spread_over_the_masters_of_a_cluster(receiver: Receiver, tmp_path: Path) -> None:
    async with cluster_of(tmp_path / "cluster", replicas=0) as cluster:
        url = f"redis+cluster://127.0.0.1:{cluster.servers[0].port}"
        async with serving(tmp_path, REDIS_URL=url, SHARDS="6") as service, client_of(service) as client:
            await scheduled_to_the_last(client, receiver.url, 6)
            keys = [await client.schedule(receiver.url) for _ in range(60)]
            stats = await client.drained()
            assert stats["ledger_balanced"]
            assert {*keys} <= {*receiver.times_by_key}
            assert len((await client.call("GET", "/schedules"))[1]["data"]) == 0
        for node in cluster.servers:
            assert await asked(node, "DBSIZE") > 0
            found = await asked(node, "INFO", "errorstats")
            assert b"CROSSSLOT" not in found
            assert b"MOVED" not in found


@pytest.mark.long
async def test_a_master_of_a_cluster_dies_and_nothing_is_lost_that_a_replica_has(
    receiver: Receiver, tmp_path: Path
) -> None:
    uncovered = ("--cluster-require-full-coverage", "no")
    async with cluster_of(tmp_path / "cluster", *uncovered) as cluster:
        four = {"REDIS_URL": cluster.url, "SHARDS": str(SHARDS), "REPLICAS": "1"}
        async with serving(tmp_path, **four) as service, client_of(service) as client:

            async def is_spread() -> bool:
                status, content = await client.call("POST", "/schedule", json={"webhook": receiver.url, "ttl": 0})
                return status == 200 and shards_of(content["key"], (SHARDS,))[0] == SHARDS - 1

            await wait_until(is_spread, "Redis has told the API how many there are")
            acknowledged, statuses, is_over = list[str](), Counter[int](), asyncio.Event()

            async def load() -> None:
                while not is_over.is_set():
                    body = {"webhook": receiver.url, "ttl": 0.1}
                    status, content = await client.call("POST", "/schedule", json=body)
                    statuses[status] += 1
                    if status == 200:
                        acknowledged.append(content["key"])

            async with asyncio.TaskGroup() as tasks:
                for _ in range(4):
                    tasks.create_task(load())
                await wait_until(lambda: len(acknowledged) > 50, "it is under load")
                await cluster.servers[0].kill()
                await wait_until(lambda: service.events("redis-away"), "its shards are away")
                before = len(acknowledged)
                await wait_until(lambda: len(acknowledged) > before + 20, "new tasks go to the others")
                away = {event["shard"] for event in service.events("redis-away")}

                def are_back() -> bool:
                    return away <= {event["shard"] for event in service.events("redis-back")}

                await wait_until(are_back, "its shards are back at the replica", 30)
                is_over.set()

            async def answer() -> bool:
                return (await client.call("GET", "/stats"))[0] == 200

            await wait_until(answer, "all shards answer, as the API finds them", 30)
            stats = await client.drained(30)
            assert stats["ledger_balanced"]
            assert service.process.poll() is None
    assert away != {*range(SHARDS)}
    assert {*statuses} <= {200, 503}
    assert {*acknowledged} <= {*receiver.times_by_key}
