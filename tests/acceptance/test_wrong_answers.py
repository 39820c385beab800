"""Well-formed answers of another kind than was asked for: told of, answered by 503, and no process ends by them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from redis_scheduler.store.outage import LINES_MOST, LINES_S
from tests.support.audit import audited
from tests.support.engine import MODULE
from tests.support.liar import LIES, TAKEN, Liar, is_about, lying
from tests.support.receiver import Receiver
from tests.support.redis_process import redis_process
from tests.support.service import TOKEN, Client, Process, client_of
from tests.support.waiting import wait_until

NOBODY = "http://127.0.0.1:9/"
REQUESTS = [
    ("POST", "/schedule", {"webhook": NOBODY, "ttl": 3_000}),
    *[("GET", "/schedules", None), ("GET", "/stats", None)],
    *[("GET", "/schedule/{}", None), ("PATCH", "/schedule/{}", {"ttl": 500}), ("DELETE", "/schedule/{}", None)],
]
ROLES = {"api and worker": ("api", "worker"), "all in one": ("--log-format=json",)}


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

    async def ask(self, *task_keys: str) -> list[int]:
        """Ask for everything at once, for these tasks where it is for one; return the statuses."""
        keys = iter([*task_keys, "x", "x", "x"])
        answers = await asyncio.gather(
            *(
                self.client.call(method, path.format(next(keys)) if "{}" in path else path, json=body)
                for method, path, body in REQUESTS
            )
        )
        return [status for status, _ in answers]

    async def schedule_some(self, receiver: Receiver) -> list[str]:
        """Purge, and schedule what is delivered or fails at once, or soon; return the keys of others that come much
        later."""
        await self.client.call("POST", "/purge")
        tasks = [(webhook, ttl) for webhook in (receiver.url, NOBODY) for ttl in (0, 0.01)] + 3 * [(NOBODY, 3_000)]
        answers = await asyncio.gather(
            *(self.client.call("POST", "/schedule", json={"webhook": webhook, "ttl": ttl}) for webhook, ttl in tasks)
        )
        return [answer["key"] for status, answer in answers[-3:] if status == 200]

    async def serves(self, receiver: Receiver) -> None:
        before = len(receiver.arrivals)
        await wait_until(lambda: self.client.accepts(receiver.url), "a schedule is accepted", 20)
        await wait_until(lambda: len(receiver.arrivals) > before, "it is delivered", 20)


@contextlib.asynccontextmanager
async def serving_behind_a_liar(folder: Path, roles: tuple[str, ...], **variables: str) -> AsyncIterator[Service]:
    async with redis_process(folder / "redis") as server, audited(server.url), lying(server.url) as liar:
        settings = {"REDIS_URL": liar.url, "API_AUTH": TOKEN, "HOST": "127.0.0.1", "RETRY_TIME": "1"} | variables
        processes = [Process(folder, role, module=MODULE, **settings) for role in roles]
        try:
            async with client_of(processes[0]) as client:
                yield Service(processes, client, liar)
                liar.lie = None
                await client.drained(30)
                for process in processes:
                    await process.stop()
        finally:
            await asyncio.gather(*(process.stop() for process in processes))


@pytest.mark.long
@pytest.mark.parametrize("roles", ROLES)
async def test_a_server_that_lies_to_every_command_is_an_outage_that_ends_with_it(
    roles: str, tmp_path: Path, receiver: Receiver
) -> None:
    async with serving_behind_a_liar(tmp_path, ROLES[roles]) as service:
        await service.serves(receiver)
        for number, lie in enumerate(LIES.values()):
            await asyncio.sleep(1.1 * LINES_S / LINES_MOST)  # so that each outage has its line
            away, back = service.lines("redis-away"), service.lines("redis-back")
            service.liar.lie = lie
            expected = [count + 1 for count in away]
            if number:  # else each notices it by itself, within seconds
                await service.ask()
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


SUBJECTS = [
    *("schedule", "update", "cancel", "purge", "read", "page", "ledger", "join", "XRANGE", "DBSIZE", "SRANDMEMBER"),
    *("promote", "load", "finish", "retry", "bury", "look", "XREADGROUP"),
]
"""What every service calls within moments."""


def lies_about(subject: str) -> list[str]:
    """One that the call does not take, another form for each, and all that it may take."""
    taken = [lie for lie in LIES if lie in TAKEN.get(subject, ())]
    refused = [lie for lie in LIES if lie not in taken]
    return [refused[SUBJECTS.index(subject) % len(refused)], *taken] if refused else taken


@pytest.mark.parametrize("share", [0, 1])
@pytest.mark.parametrize("roles", ROLES)
async def test_lies_about_one_call_end_nothing_and_leave_nothing_behind(
    roles: str, share: int, tmp_path: Path, receiver: Receiver
) -> None:
    """The check finds that Redis serves, so it is no outage: one line in an hour.

    What each call makes of every lie is the matter of tests/integration/test_wrong_answers.py.
    """
    # It looks for lost claims, and at the deployment's id, every second.
    variables = {"RETRIES": "1", "RETRY_TIME": "0.05", "LEASE_MS": "3000", "REJOIN_INTERVAL_S": "1"}
    async with serving_behind_a_liar(tmp_path, ROLES[roles], **variables) as service:
        await service.serves(receiver)
        for subject in SUBJECTS[share::2]:
            service.liar.is_about = partial(is_about, subject)
            for lie in lies_about(subject):
                before = service.liar.told
                service.liar.lie = LIES[lie]
                statuses = await service.ask(*await service.schedule_some(receiver))
                assert set(statuses) <= {200, 404, 503}, (subject, lie, statuses)
                await wait_until(lambda: service.liar.told > before, f"it lies about {subject}: {lie}")  # noqa: B023
                service.live()
            service.liar.lie = None
            await service.serves(receiver)
        assert (await service.client.call("POST", "/purge"))[0] == 200
        service.live()
        for process in service.processes:
            said = [event["error"] for event in process.events("redis-refused")]
            # An entry that was taken has an id that is none.
            assert sum("Invalid stream ID" in error for error in said) <= 1, said
            said = [error for error in said if "Invalid stream ID" not in error]
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
