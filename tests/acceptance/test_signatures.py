"""Signed deliveries, checked by the reference packages of two languages: through retries, a change of secrets,
callbacks and series."""

import base64
import json
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook

from tests.support.javascript import JAVASCRIPT, has_javascript
from tests.support.receiver import Arrival, Receiver
from tests.support.service import client_of, run, serving
from tests.support.waiting import wait_until

OLD, NEW = (f"whsec_{base64.b64encode(bytes([number]) * 32).decode()}" for number in (1, 2))
Check = Callable[..., None]


def verified_in_python(checks: Iterable[tuple[str, Arrival]]) -> None:
    for secret, arrival in checks:
        Webhook(secret).verify(arrival.body, arrival.headers, json_parse=False)


def verified_in_javascript(checks: Iterable[tuple[str, Arrival]]) -> None:
    sent = [(secret, one.headers, base64.b64encode(one.body).decode()) for secret, one in checks]
    done = subprocess.run(["node", "verify.mjs"], cwd=JAVASCRIPT, input=json.dumps(sent).encode(), capture_output=True)
    assert (done.returncode, json.loads(done.stdout or "null")) == (0, []), done.stderr.decode()


@pytest.fixture(params=[verified_in_python, verified_in_javascript])
def check(request: pytest.FixtureRequest) -> Check:
    """Checks by the reference package of a language that arrivals are signed by each of these secrets, and say who they
    are."""
    verified = request.param
    if verified is verified_in_javascript and not has_javascript():
        pytest.skip("make test-javascript")

    def check(arrivals: Sequence[Arrival], *secrets: str) -> None:
        for arrival in arrivals:
            assert arrival.headers["webhook-id"] == arrival.key
            assert len(arrival.headers["webhook-signature"].split(" ")) == len(secrets)
        verified([(secret, arrival) for arrival in arrivals for secret in secrets])

    return check


async def test_a_change_of_secrets_in_the_middle_of_retries(
    check: Check, redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.status = 500
    variables = {"REDIS_URL": redis_url, "RETRIES": "-1", "RETRY_TIME": "0.5"}
    async with serving(tmp_path, WEBHOOK_SECRET=OLD, **variables) as process, client_of(process) as client:
        keys = {await client.schedule(receiver.url, data={"a": 1}), await client.schedule(receiver.url)}
        await wait_until(lambda: min(receiver.times_by_key[key] for key in keys) >= 2, "they are retried")
        assert OLD not in process.log
    check(receiver.arrivals, OLD)
    before = len(receiver.arrivals)
    (tmp_path / "secret").write_text(f"{NEW} {OLD}\n")
    file = str(tmp_path / "secret")
    async with serving(tmp_path, WEBHOOK_SECRET_FILE=file, PROCESSES="2", **variables) as process:
        await wait_until(lambda: len(receiver.arrivals) > before, "it is retried by new secrets")
        receiver.status = 200
        async with client_of(process) as client:
            await client.drained()
    check(receiver.arrivals[before:], NEW, OLD)
    last = [arrival for arrival in receiver.arrivals if arrival.key in keys]
    assert {arrival.headers["webhook-id"] for arrival in last} == keys
    times = [int(arrival.headers["webhook-timestamp"]) for arrival in last]
    assert times == sorted(times)
    assert all(abs(arrival.at - int(arrival.headers["webhook-timestamp"])) < 30 for arrival in last)


async def test_callbacks_series_and_each_body_are_signed(
    check: Check, redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    async with (
        serving(tmp_path, REDIS_URL=redis_url, WEBHOOK_SECRET=NEW) as process,
        client_of(process) as client,
    ):
        bodies: list[dict[str, Any]] = [
            {"data": {"b": "é"}, "method": "PUT"},
            {"body": "text é"},
            {"body_base64": "Zm9v"},
            {"method": "GET"},
            {"headers": {"X": "y"}, "data": [1]},
            {"on_success": {"webhook": f"{receiver.url}told"}},
            {"repeat": {"every": 1, "times": 2}},
        ]
        for fields in bodies:
            await client.schedule(receiver.url, **fields)
        await client.drained()
        await wait_until(lambda: len(receiver.arrivals) >= len(bodies) + 2, "all came")
    check(receiver.arrivals, NEW)
    assert "/told" in {arrival.path for arrival in receiver.arrivals}
    assert sum("Schedule-Occurrence" in arrival.headers for arrival in receiver.arrivals) == 2


async def test_a_receiver_checks_by_the_public_key_that_the_command_shows(
    redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    key = f"whsk_{base64.b64encode(b'k' * 32).decode()}"
    shown = run("token", "--public-key", WEBHOOK_SECRET=f"{NEW} {key}")
    assert (shown.returncode, shown.stderr) == (0, "")
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(shown.stdout.strip().removeprefix("whpk_")))
    async with serving(tmp_path, REDIS_URL=redis_url, WEBHOOK_SECRET=key) as process, client_of(process) as client:
        await client.schedule(receiver.url, data={"a": 1})
        await client.drained()
    (arrival,) = receiver.arrivals
    name, _, signature = arrival.headers["webhook-signature"].partition(",")
    assert name == "v1a"
    head = f"{arrival.headers['webhook-id']}.{arrival.headers['webhook-timestamp']}.".encode()
    public.verify(base64.b64decode(signature), head + arrival.body)
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signature), head + arrival.body + b" ")


@pytest.mark.parametrize("variables", [{}, {"WEBHOOK_SECRET": NEW}])
def test_without_such_a_key_there_is_no_public_one(variables: dict[str, str]) -> None:
    shown = run("token", "--public-key", **variables)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.startswith("redis-scheduler: Neither WEBHOOK_SECRET nor WEBHOOK_SECRETS_FILE has a whsk_ key")
