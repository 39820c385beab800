"""Where deliveries may go, of the service as it runs: on a network of the loopback alone, where each packet is seen."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from redis_scheduler.store.client import RedisClient
from tests.support.connect_proxy import proxying
from tests.support.egress_course import BY_RULES, OTHER_PORT, PORT, PUBLIC, RETRIES
from tests.support.egress_table import BAD, LITERALS, NAMES
from tests.support.loopback_only import command, why_not
from tests.support.receiver import Receiver
from tests.support.redis_process import redis_process
from tests.support.service import TOKEN, client_of, run, serving
from tests.support.tokens import make_token

MODES = ["public", "private"]


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of every webhook."""
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("egress")
    done = subprocess.run(
        command("tests.support.egress_course", str(folder)), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def came_of(course: dict[str, Any], mode: str, webhook: str) -> dict[str, Any]:
    found: dict[str, Any] = course[mode]["found"][webhook]
    return found


def test_a_literal_is_delivered_to_or_dies_at_once(course: dict[str, Any]) -> None:
    for host, verdicts in LITERALS.items():
        for mode, wanted in zip(MODES, verdicts, strict=True):
            found = came_of(course, mode, f"http://{host}:{PORT}/")
            if wanted == BAD:
                assert found == {"status": 400}, host
            elif wanted:
                assert (found["state"], found["retry"]) == ("dead", 1), host
                assert found["error"] == f"egress: the address is refused: {wanted}"
            else:
                assert found["state"] == "delivered", host


def test_a_name_is_delivered_to_at_an_allowed_address_or_fails(course: dict[str, Any]) -> None:
    for host, (addresses, *verdicts) in NAMES.items():
        for mode, wanted in zip(MODES, verdicts, strict=True):
            found = came_of(course, mode, f"http://{host}:{PORT}/")
            if not wanted:
                assert found["state"] == "delivered", host
                continue
            assert (found["state"], found["retry"]) == ("dead", 1 + RETRIES), host
            assert found["error"] == f"egress: every address of the name is refused: {wanted}"
            logged = course[mode]["log"][found["key"]]
            assert all(address in logged for address in addresses)
            assert not any(address in found["error"] for address in addresses)


def test_rules_deny_and_allow(course: dict[str, Any]) -> None:
    for webhook, wanted in BY_RULES.items():
        found = came_of(course, "rules", webhook)
        assert found["state"] == ("dead" if wanted else "delivered"), webhook
        assert found["error"].rpartition(": ")[2] == wanted


def test_no_packet_was_sent_to_an_address_that_is_refused(course: dict[str, Any]) -> None:
    shared = {"8.8.8.8", "9.9.9.9", "172.32.0.1", "100.128.0.1", "2606:4700::1", "2606:4700::2", "2002:808:808::1"}
    assert set(course["public"]["dialled"]) == shared | {"64:ff9b::808:808", "2001:0:808:808::f7f7:f7f7"}
    private = set(course["private"]["dialled"])
    assert {"127.0.0.1", "10.0.0.1", "::1", "fd00::1", *shared} <= private
    assert not any(address.startswith(("169.254.", "0.", "224.", "fe80", "ff0", "fd00:ec2")) for address in private)
    assert course["rules"]["dialled"] == ["10.1.1.1", "169.254.169.254", "192.168.0.1"]


def test_a_name_that_changes_its_address_leads_nowhere_else(course: dict[str, Any]) -> None:
    for number in range(4):
        host = f"http://{number}.rebind.test"
        assert came_of(course, "public", f"{host}:{PORT}/")["state"] == "delivered"
        changed = came_of(course, "public", f"{host}:{OTHER_PORT}/")
        assert changed["error"] == "egress: every address of the name is refused: loopback"
        assert course["asked"][f"{number}.rebind.test A"] >= 2, "the name server was asked again"


def test_a_name_that_is_denied_is_not_even_looked_up(course: dict[str, Any]) -> None:
    assert not [question for question in course["asked"] if question.startswith("evil.test")]


def test_a_redirect_is_not_followed(course: dict[str, Any]) -> None:
    assert came_of(course, "public", f"http://{PUBLIC}:{PORT}/redirect")["error"] == "answered 302"


async def test_the_redis_of_no_shard_is_called(tmp_path: Path) -> None:
    async with (
        redis_process(tmp_path / "one") as one,
        redis_process(tmp_path / "other") as other,
        serving(tmp_path, REDIS_URL=f"{one.url},{other.url}", RETRIES="0") as process,
        client_of(process) as client,
    ):
        keys = [await client.schedule(f"http://127.0.0.1:{redis.port}/") for redis in (one, other, one, other)]
        await client.drained()
        letters = [await client.call("GET", f"/dead/{key}") for key in keys]
        errors = [content["data"]["info"]["last_failure"]["error"] for _, content in letters]
        assert errors == ["egress: the address is refused: the scheduler's Redis"] * 4


@pytest.mark.parametrize(("name", "what"), [("own", "the scheduler's own port"), ("redis", "the scheduler's Redis")])
def test_the_service_calls_neither_itself_nor_its_redis(course: dict[str, Any], name: str, what: str) -> None:
    found = came_of(course, "private", name)
    assert (found["state"], found["retry"]) == ("dead", 1)
    assert found["error"] == f"egress: the address is refused: {what}"


def test_the_start_says_what_is_let_through(course: dict[str, Any]) -> None:
    lines = {mode: course[mode]["said"] for mode in ("public", "private", "rules")}
    assert [len(said) for said in lines.values()] == [1, 1, 1]
    assert lines["public"][0]["lets_through"] == "public"
    assert lines["private"][0]["lets_through"] == "loopback, shared, private, public"
    assert lines["rules"][0]["deny"] == "10.1.2.0/24,evil.test,:7001"


async def test_deliveries_go_through_a_proxy_whose_password_nobody_sees(tmp_path: Path, receiver: Receiver) -> None:
    async with proxying(receiver.port) as proxy:
        variables = {"EGRESS_PROXY": f"http://user:hidden-word@127.0.0.1:{proxy.port}", "LOG_LEVEL": "debug"}
        async with serving(tmp_path, **variables) as process, client_of(process) as client:
            await client.schedule("http://only.the-proxy.invalid/")
            await client.drained()
            [said] = process.events("egress")
    assert [arrival.headers["Host"] for arrival in receiver.arrivals] == ["only.the-proxy.invalid"]
    assert said["proxy"] == f"127.0.0.1:{proxy.port}"
    assert "lets_through" not in said
    assert "hidden-word" not in process.log


def test_a_start_says_what_it_cannot_use(tmp_path: Path) -> None:
    file = tmp_path / "tls.json"
    file.write_text('{"a.example": {"certificate": "gone.pem"}}')
    own = {"DATA_DIR": str(tmp_path / "data"), "PORT": "0"}
    for variables, text in [
        ({"EGRESS_TLS_FILE": str(file)}, f"EGRESS_TLS_FILE: {tmp_path}/gone.pem cannot be read: No such file"),
        ({"EGRESS_PROXY": "proxy:hidden-word"}, "EGRESS_PROXY: must be http://host:port"),
        ({"EGRESS_ALLOW": "10.0.0.1/8"}, "EGRESS_ALLOW=10.0.0.1/8: must be addresses"),
    ]:
        done = run(**own, **variables)
        assert (done.returncode, done.stdout) == (2, "")
        assert text in done.stderr
        assert "hidden-word" not in done.stderr


async def test_a_host_that_nobody_verifies_is_a_hazard(tmp_path: Path) -> None:
    file = tmp_path / "tls.json"
    file.write_text('{"old.example": {"verify": false}}')
    async with serving(tmp_path, EGRESS_TLS_FILE=str(file)) as process:
        assert any("old.example can read and change" in event["warning"] for event in process.events("hazard"))


async def test_addresses_are_shown_to_an_admin_alone(
    tmp_path: Path, redis_url: str, client: RedisClient, receiver: Receiver
) -> None:
    async with (
        serving(tmp_path, REDIS_URL=redis_url, RETRIES="0", EGRESS_DENY="127.0.0.0/8,::1") as process,
        client_of(process) as service,
    ):
        key = await service.schedule(f"http://localhost:{receiver.port}/")
        await service.drained()
        texts = [await make_token(client, "read"), await make_token(client, "read", "admin")]
        shown = [
            await service.call("GET", path, headers={"Authorization": text})
            for text in (*texts, TOKEN)
            for path in (f"/schedule/{key}", f"/dead/{key}")
        ]
    details = []
    for status, content in shown:
        assert status == 200
        info = content["data"]["info"]
        assert info["last_failure"]["error"] == "egress: every address of the name is refused: EGRESS_DENY"
        details.append(info["attempts"][0].get("detail", ""))
    assert details[:2] == ["", ""]
    assert all("127.0.0.1 (EGRESS_DENY)" in detail for detail in details[2:])
    assert "127.0.0.1" not in json.dumps(shown[:2])
