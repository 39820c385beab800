"""Secrets in files are read at the start: workers that are started anew, one by one, change them, and no retry is
lost."""

import base64
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.receiver import Arrival, Receiver
from tests.support.service import Process, client_of, serving
from tests.support.waiting import wait_until

OLD, NEW = (f"whsec_{base64.b64encode(bytes([number]) * 32).decode()}" for number in (1, 2))
TASKS = 12


def signed_by(arrival: Arrival, secret: str) -> bool:
    try:
        Webhook(secret).verify(arrival.body, arrival.headers, json_parse=False)
    except WebhookVerificationError:
        return False
    return True


class Deployment:
    """An API and two workers, whose secrets stand in files."""

    def __init__(self, folder: Path, stack: AsyncExitStack, **variables: str) -> None:
        self._folder = folder
        self._stack = stack
        self._variables = variables | {
            "SECRETS_FILE": str(folder / "secrets"),
            "WEBHOOK_SECRETS_FILE": str(folder / "signing"),
        }
        self._workers: list[Process] = []

    def write(self, key: str, signing: str) -> None:
        """Put secrets into the files."""
        (self._folder / "secrets").write_text(f"shop={key}\nshop.hosts=127.0.0.1\n")
        (self._folder / "signing").write_text(f"type:mail={signing}\n")

    async def start(self, role: str) -> Process:
        process = await self._stack.enter_async_context(serving(self._folder, role, **self._variables))
        if role == "worker":
            self._workers.append(process)
        return process

    async def restart_workers(self) -> AsyncIterator[None]:
        """Start each worker anew; yield after each."""
        for process in [*self._workers]:
            await process.stop()
            self._workers.remove(process)
            await self.start("worker")
            yield


@asynccontextmanager
async def deployed(folder: Path, **variables: str) -> AsyncIterator[tuple[Deployment, Process]]:
    async with AsyncExitStack() as stack:
        deployment = Deployment(folder, stack, **variables)
        deployment.write("old-key", OLD)
        api = await deployment.start("api")
        for _ in range(2):
            await deployment.start("worker")
        yield deployment, api


async def test_secrets_are_changed_worker_by_worker_and_no_retry_is_lost(
    redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.status = 503
    settings = {"REDIS_URL": redis_url, "RETRIES": "-1", "RETRY_TIME": "0.2"}
    async with deployed(tmp_path, **settings) as (deployment, api), client_of(api) as client:
        headers = {"X-Key": "${secret:shop}"}
        keys = [
            await client.schedule(receiver.url, path="/schedule?type=mail", headers=headers, data={"n": number})
            for number in range(TASKS)
        ]
        await wait_until(lambda: min(receiver.times_by_key[key] for key in keys) >= 2, "they are retried")
        assert {(one.headers["X-Key"], signed_by(one, OLD)) for one in receiver.arrivals} == {("old-key", True)}

        deployment.write("new-key", f"{NEW} {OLD}")
        before = len(receiver.arrivals)
        await wait_until(lambda: len(receiver.arrivals) > before + TASKS, "they are retried by what was read before")
        assert {one.headers["X-Key"] for one in receiver.arrivals} == {"old-key"}
        async for _ in deployment.restart_workers():
            seen = len(receiver.arrivals)
            await wait_until(lambda at=seen: len(receiver.arrivals) > at + TASKS, "they are retried")  # type: ignore[misc]
        after = len(receiver.arrivals)
        receiver.status = 200
        await client.drained()

    rotated = receiver.arrivals[after:]
    assert {one.key for one in rotated} == set(keys)
    assert {(one.headers["X-Key"], signed_by(one, OLD), signed_by(one, NEW)) for one in rotated} == {
        ("new-key", True, True)
    }
    assert all(signed_by(one, OLD) for one in receiver.arrivals)
    attempts = defaultdict(list)
    for one in receiver.arrivals:
        attempts[one.key].append(one.attempt)
    assert [found for found in attempts.values() if found != list(range(1, len(found) + 1))] == []
