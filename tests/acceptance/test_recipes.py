"""The receivers of docs/howto/signatures.md, each as a process of its framework: deliveries of the real service that
are signed are taken; what another secret signed, what was changed, and what is old is not."""

import asyncio
import base64
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from standardwebhooks import Webhook

from tests.support.howto import FOLDER, blocks
from tests.support.javascript import JAVASCRIPT, has_javascript
from tests.support.receiver import Arrival, Receiver
from tests.support.redis_process import free_port
from tests.support.service import client_of, serving
from tests.support.waiting import wait_until

SECRET, OTHER = (f"whsec_{base64.b64encode(bytes([number]) * 32).decode()}" for number in (1, 2))
LINES_MOST = 15
BESIDE_DJANGO = """
from django.urls import path

import receiver

ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = __name__
SECRET_KEY = "of this test"
urlpatterns = [path("", receiver.receive)]
"""


@dataclass
class Recipe:
    """How the receiver of a framework is run: in a file of this name, by this command."""

    kind: str
    imported: str
    file: str
    command: tuple[str, ...]

    @property
    def source(self) -> str:
        """The block of the page."""
        page = (FOLDER / "signatures.md").read_text()
        (found,) = [block.text for block in blocks(page) if block.kind == self.kind and self.imported in block.text]
        return found


PYTHON = (sys.executable, "-m")
RECIPES = {
    "fastapi": Recipe(
        "python", "fastapi", "receiver.py", (*PYTHON, "uvicorn", "receiver:app", "--log-level=error", "--port")
    ),
    "django": Recipe("python", "django", "receiver.py", (*PYTHON, "django", "runserver", "--noreload")),
    "flask": Recipe("python", "flask", "receiver.py", (*PYTHON, "flask", "--app=receiver", "run", "--port")),
    "express": Recipe("javascript", "express", "receiver.mjs", ("node", "receiver.mjs")),
}


def test_each_receiver_of_the_page_is_run_and_short() -> None:
    kinds = {recipe.kind for recipe in RECIPES.values()}
    shown = [block.text for block in blocks((FOLDER / "signatures.md").read_text()) if block.kind in kinds]
    assert sorted(shown) == sorted(recipe.source for recipe in RECIPES.values())
    assert [text for text in shown if len(text.splitlines()) > LINES_MOST] == []


@asynccontextmanager
async def receiving(recipe: Recipe, folder: Path) -> AsyncIterator[str]:
    """Run a receiver; yield its URL."""
    port = free_port()
    (folder / recipe.file).write_text(recipe.source)
    (folder / "site_of_django.py").write_text(BESIDE_DJANGO)
    (folder / "node_modules").symlink_to(JAVASCRIPT / "node_modules")
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(folder),
        "DJANGO_SETTINGS_MODULE": "site_of_django",
        "WEBHOOK_SECRET": SECRET,
        "PORT": str(port),
    }
    with (folder / "receiver.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *recipe.command, str(port), cwd=folder, env=variables, stdout=log, stderr=subprocess.STDOUT
        )
    try:

        async def listens() -> bool:
            assert process.returncode is None, (folder / "receiver.log").read_text()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
            return True

        await wait_until(listens, "the receiver listens", 30)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.kill()
        await process.wait()


def made(arrival: Arrival, at: datetime) -> dict[str, str]:
    """The headers of a delivery as it would have been sent at another time."""
    headers = {name: value for name, value in arrival.headers.items() if name.startswith("webhook-")}
    signature = Webhook(SECRET).sign(headers["webhook-id"], at.replace(tzinfo=None), arrival.body.decode())
    return headers | {"webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


async def answers(url: str, arrival: Arrival) -> dict[str, int]:
    """What a receiver answers to a delivery that came to another, as it is and in several changes."""
    headers, body, now = arrival.headers, arrival.body, datetime.now(UTC)
    requests = {
        "as it is": (headers, body),
        "made a minute ago": (made(arrival, now - timedelta(minutes=1)), body),
        "made long ago": (made(arrival, now - timedelta(minutes=6)), body),
        "its time changed": (headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 1)}, body),
        "its body changed": (headers, body.replace(b"17", b"18")),
        "its id changed": (headers | {"webhook-id": "another"}, body),
        "a signature that is none": (headers | {"webhook-signature": "v1"}, body),
        "not signed": ({}, body),
        "a body that is no text": (headers, b"\xff"),
    }
    found = {}
    async with aiohttp.ClientSession() as session:
        for name, (shown, sent) in requests.items():
            carried = {key: value for key, value in shown.items() if key.startswith("webhook-")}
            async with session.post(url, data=sent, headers={"Content-Type": "application/json"} | carried) as answer:
                found[name] = answer.status
    return found


@pytest.mark.parametrize("name", RECIPES)
async def test_a_receiver_takes_what_is_signed_and_nothing_else(
    name: str, redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    if name == "express" and not has_javascript():
        pytest.skip("make test-javascript")
    (tmp_path / "secrets").write_text(f"type:foreign={OTHER}\n")
    settings = {"WEBHOOK_SECRET": SECRET, "WEBHOOK_SECRETS_FILE": str(tmp_path / "secrets"), "RETRIES": "0"}
    async with (
        receiving(RECIPES[name], tmp_path) as url,
        serving(tmp_path, REDIS_URL=redis_url, **settings) as process,
        client_of(process) as client,
    ):
        taken = [await client.schedule(url, data={"a": "é"}), await client.schedule(url)]
        refused = await client.schedule(url, path="/schedule?type=foreign", data={"a": "é"})
        await client.schedule(receiver.url, data={"order": 17})
        await client.drained()
        states = {key: (await client.call("GET", f"/schedule/{key}"))[1]["data"]["info"] for key in [*taken, refused]}
        assert [states[key]["state"] for key in taken] == ["delivered", "delivered"]
        assert (states[refused]["state"], states[refused]["last_failure"]["error"]) == ("dead", "answered 401")
        (arrival,) = receiver.arrivals
        found = await answers(url, arrival)
        right = {"as it is", "made a minute ago"}
        assert found == {request: 204 if request in right else 401 for request in found}
