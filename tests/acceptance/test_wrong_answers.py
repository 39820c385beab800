"""Well-formed answers of another kind than was asked for: told of, answered by 503, and no process ends by them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from redis_scheduler.redis_client import Script
from redis_scheduler.store import SCRIPTS
from tests.support.audit import audited
from tests.support.liar import Command, Liar, lying
from tests.support.receiver import Receiver
from tests.support.redis_process import redis_process
from tests.support.service import TOKEN, Client, Process, client_of
from tests.support.waiting import wait_until

LIES = {
    "status": b"+OK\r\n",
    "another status": b"+QUEUED\r\n",
    "number": b":1\r\n",
    "large number": b":9223372036854775807\r\n",
    "nothing": b"$-1\r\n",
    "text": b"$3\r\nabc\r\n",
    "no text": b"$0\r\n\r\n",
    "digits": b"$20\r\n99999999999999999999\r\n",
    "empty list": b"*0\r\n",
    "no list": b"*-1\r\n",
    "list of lists": b"*1\r\n*0\r\n",
    "numbers": b"*3\r\n:1\r\n:2\r\n:3\r\n",
    "texts": b"*5\r\n+a\r\n+b\r\n+c\r\n+d\r\n+e\r\n",
    "list with an error": b"*3\r\n*0\r\n$-1\r\n-ERR no\r\n",
    "entries": b"*1\r\n*2\r\n+q\r\n*1\r\n*2\r\n$3\r\nabc\r\n*2\r\n$3\r\nkey\r\n$1\r\nx\r\n",
    "deep list": b"*1\r\n" * 6 + b":1\r\n",
}
REQUESTS = [
    ("POST", "/schedule", {"webhook": "http://127.0.0.1:9/", "ttl": 3_000}),
    *[("GET", "/schedules", None), ("GET", "/stats", None), ("POST", "/purge", None)],
    *[("GET", "/schedule/x", None), ("PATCH", "/schedule/x", {"ttl": 5}), ("DELETE", "/schedule/x", None)],
]
ROLES = {"api and worker": ("api", "worker"), "all in one": ("all",)}


class Service:
    """Its processes behind a liar."""

    def __init__(self, processes: list[Process], client: Client, liar: Liar) -> None:
        self.processes = processes
        self.client = client
        self.liar = liar

    def lines(self, *names: str) -> list[int]:
        """How many of these lines each has written."""
        return [sum(len(process.events(name)) for name in names) for process in self.processes]

    def live(self) -> None:
        for process in self.processes:
            assert process.process.poll() is None, process.log
            assert not process.events("fault"), process.log
            assert "Traceback" not in process.log, process.log

    async def ask(self) -> list[int]:
        """Ask for everything at once; return the statuses."""
        answers = await asyncio.gather(*(self.client.call(method, path, json=body) for method, path, body in REQUESTS))
        return [status for status, _ in answers]

    async def serves(self, receiver: Receiver) -> None:
        before = len(receiver.arrivals)

        async def is_accepted() -> bool:
            return (await self.client.call("POST", "/schedule", json={"webhook": receiver.url, "ttl": 0}))[0] == 200

        await wait_until(is_accepted, "a schedule is accepted", 20)
        await wait_until(lambda: len(receiver.arrivals) > before, "it is delivered", 20)


@contextlib.asynccontextmanager
async def serving_behind_a_liar(folder: Path, roles: tuple[str, ...], **variables: str) -> AsyncIterator[Service]:
    async with redis_process(folder / "redis") as server, audited(server.url), lying(server.port) as liar:
        settings = {"REDIS_URL": liar.url, "API_AUTH": TOKEN, "HOST": "127.0.0.1", "RETRY_TIME": "1"} | variables
        processes = [Process(folder, *([] if role == "all" else [role]), **settings) for role in roles]
        try:
            async with client_of(processes[0]) as client:
                yield Service(processes, client, liar)
                liar.lie = None
                await client.drained(30)
                for process in processes:
                    await process.stop()
        finally:
            await asyncio.gather(*(process.stop() for process in processes))


@pytest.mark.parametrize("roles", ROLES)
async def test_a_server_that_lies_to_every_command_is_an_outage_that_ends_with_it(
    roles: str, tmp_path: Path, receiver: Receiver
) -> None:
    async with serving_behind_a_liar(tmp_path, ROLES[roles]) as service:
        await service.serves(receiver)
        for lie in LIES.values():
            away, back = service.lines("redis-away"), service.lines("redis-back")
            service.liar.lie = lie
            expected = [count + 1 for count in away]
            await wait_until(lambda: service.lines("redis-away") == expected, f"each says so: {lie!r}")  # noqa: B023
            for _ in range(3):
                assert set(await service.ask()) == {503}, lie
            assert service.lines("redis-away") == expected
            service.live()
            service.liar.lie = None
            await service.serves(receiver)
            expected = [count + 1 for count in back]
            await wait_until(lambda: service.lines("redis-back") == expected, f"each is back: {lie!r}")  # noqa: B023
        service.live()


def is_about(what: str, command: Command) -> bool:
    """Whether a command is the one of that name, or runs the script of that name."""
    if what.isupper():
        return command[0] == what.encode()
    script = Script(what)
    return command[0] in (b"EVAL", b"EVALSHA") and command[1] in (script.sha.encode(), script.text.encode())


SUBJECTS = [
    *[name for name in SCRIPTS if name not in ("retire", "rewind")],
    *("read", "page", "ledger", "join", "XREADGROUP", "XPENDING", "XRANGE", "TIME", "DBSIZE", "SRANDMEMBER", "CLIENT"),
]


@pytest.mark.parametrize("roles", ROLES)
async def test_lies_about_one_call_end_nothing_and_leave_nothing_behind(
    roles: str, tmp_path: Path, receiver: Receiver
) -> None:
    """The check finds that Redis serves, so it is no outage: one line in an hour."""
    async with serving_behind_a_liar(tmp_path, ROLES[roles], RETRIES="1") as service:
        await service.serves(receiver)
        for subject in SUBJECTS:
            service.liar.is_about = lambda command: is_about(subject, command)  # noqa: B023
            for name in ("status", "number", "nothing", "empty list", "texts", "entries"):
                lie = LIES[name]
                service.liar.lie = lie
                before = service.liar.told
                statuses = await service.ask()
                assert set(statuses) <= {200, 404, 503}, (subject, lie, statuses)
                await service.client.call("POST", "/schedule", json={"webhook": receiver.url, "ttl": 0.01})
                with contextlib.suppress(AssertionError):
                    await wait_until(lambda: service.liar.told > before, "it lies", 0.3)  # noqa: B023
                service.live()
            service.liar.lie = None
            await service.serves(receiver)
        service.live()
        for process in service.processes:
            said = [event["error"] for event in process.events("redis-refused")]
            assert len(said) == 1, said
            assert "REDIS_URL must lead to a Redis or Valkey" in said[0]


async def test_the_line_names_the_call_and_what_came_and_nothing_of_it(tmp_path: Path, receiver: Receiver) -> None:
    async with serving_behind_a_liar(tmp_path, ("api",)) as service:
        service.liar.is_about = lambda command: is_about("schedule", command)
        service.liar.lie = b"$14\r\nsecret-of-user\r\n"
        for _ in range(3):
            status, answer = await service.client.call("POST", "/schedule", json={"webhook": receiver.url, "ttl": 0})
            assert status == 503
            assert "secret" not in answer["error"]
        [process] = service.processes
        [line] = process.events("redis-refused")
        assert "the script schedule was answered by a text of 14 bytes. Expected a time" in line["error"]
        assert "secret" not in process.log
