"""The command `redis-scheduler token`."""

import pytest

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.token import FORM
from redis_scheduler.store.tokens import Tokens
from redis_scheduler.task.listing import TOKEN_MARK
from tests.scripts.states import new_task
from tests.support.names import KEYS
from tests.support.service import run
from tests.support.store import Store
from tests.support.tokens import id_of


def token(redis_url: str, *arguments: str, code: int = 0) -> str:
    """Run the command; return what it printed."""
    done = run("token", *arguments, REDIS_URL=redis_url)
    assert done.returncode == code, done.stderr
    return done.stdout.strip() if code == 0 else done.stderr.strip()


async def test_a_token_is_made_listed_rotated_and_revoked(redis_url: str, client: RedisClient) -> None:
    text = token(redis_url, "create", "--name", "shop", "--can", "read,schedule", "--expires", "90d")
    assert FORM.fullmatch(text.encode())
    [kept] = await Tokens(client).all()
    assert kept.id == id_of(text)
    assert text.split("_", 2)[2].encode() not in kept.raw
    assert kept.token is not None
    assert kept.token.can == ("schedule", "read")
    assert kept.token.expires - kept.token.made == 90 * 86_400_000
    head, row = token(redis_url, "list").splitlines()
    assert head.split()[:3] == ["id", "name", "may"]
    assert row.split()[:3] == [kept.id, "shop", "schedule,read"]
    assert row.endswith("never")

    changed = token(redis_url, "rotate", kept.id)
    assert (id_of(changed), changed == text) == (kept.id, False)
    [rotated] = await Tokens(client).all()
    assert rotated.token is not None
    assert rotated.token.is_of(changed.encode(), kept.token.made)
    assert rotated.token.is_of(text.encode(), kept.token.made)
    assert not rotated.token.is_of(text.encode(), kept.token.made + 3_700_000)
    token(redis_url, "rotate", kept.id, "--overlap", "0s")
    [rotated] = await Tokens(client).all()
    assert rotated.token is not None
    assert not rotated.token.is_of(changed.encode(), kept.token.made)

    token(redis_url, "revoke", kept.id)
    assert await Tokens(client).all() == []
    for verb in ("revoke", "rotate"):
        assert token(redis_url, verb, kept.id, code=1) == f"There is no token with the id {kept.id}."


async def test_what_foreign_hands_wrote_is_listed_and_can_be_revoked(redis_url: str, client: RedisClient) -> None:
    name = b'{"name":"\\u001b[2J","digest":"","can":["read"],"made":1}'
    await client.command("HSET", KEYS.tokens, "0123456789", b"\xff{", "\x1b[1m", b"x", "0123456780", name)
    await client.command("HSET", KEYS.token_uses, "0123456789", "soon")
    shown = token(redis_url, "list")
    assert "another version" in shown
    assert shown.replace("\n", "").isprintable()
    assert "revoke it" in token(redis_url, "rotate", "0123456789", code=1)
    token(redis_url, "revoke", "0123456789")
    assert len(await Tokens(client).all()) == 2
    await client.command("UNLINK", KEYS.tokens, KEYS.token_uses)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "--name", "x", "--can", "fly"], "--can: must be rights"),
        (["create", "--name", "", "--can", "read"], "--name: must be 1 to 64"),
        (["create", "--name", "x", "--can", "read", "--expires", "9 days"], "--expires: must be a number with"),
        (["create", "--name", "x", "--can", "read", "--expires", "9999999d"], "--expires: must be a number with"),
        (["create", "--can", "read"], "--name"),
        (["create", "--name", "x", "--can", "read", "--types", "a,a"], "--types: must be 1 to 50 different types"),
        (["create", "--name", "x", "--can", "read", "--types", ""], "--types: must be 1 to 50 different types"),
        (["create", "--name", "x", "--can", "schedule", "--rate", "nan"], "--rate: must be a number of tasks"),
        (["create", "--name", "x", "--can", "schedule", "--tasks", "0"], "--tasks: must be a whole number of tasks"),
        (["create", "--name", "x", "--can", "schedule", "--bytes", "1k"], "--bytes: must be a whole number of bytes"),
        (
            ["create", "--name", "x", "--can", "schedule", "--limit-keys", "a,@"],
            "--limit-keys: must be 1 to 50 different",
        ),
        (
            ["create", "--name", "x", "--can", "schedule", "--limit-keys", "a,a"],
            "--limit-keys: must be 1 to 50 different",
        ),
        (["revoke", "x"], "must be the id of a token"),
        (["rotate", "0123456789", "--overlap", "1"], "--overlap: must be a number with"),
        ([], "--delivery"),
    ],
)
def test_what_is_wrong_is_told(arguments: list[str], said: str) -> None:
    done = run("token", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


async def test_a_token_with_types_cannot_purge(redis_url: str, client: RedisClient) -> None:
    done = run("token", "create", "--name", "x", "--can", "read,purge", "--types", "mail", REDIS_URL=redis_url)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--can purge: without effect" in done.stderr
    assert await Tokens(client).all() == []
    token(redis_url, "create", "--name", "x", "--can", "read", "--types", "mail,order")
    assert "  mail,order  " in token(redis_url, "list")
    await client.command("UNLINK", KEYS.tokens)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--can", "read", "--rate", "5"], "--rate 5: without effect"),
        (["--can", "read", "--tasks", "5"], "--tasks 5: without effect"),
        (["--can", "read,replay", "--bytes", "5"], "--bytes 5: without effect"),
        (["--can", "read", "--limit-keys", "a"], "--limit-keys a: without effect"),
        (["--can", "schedule,admin", "--limit-keys", "a"], "--limit-keys a: without effect"),
    ],
)
async def test_a_limit_without_effect_is_refused(
    arguments: list[str], said: str, redis_url: str, client: RedisClient
) -> None:
    done = run("token", "create", "--name", "x", *arguments, REDIS_URL=redis_url)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert await Tokens(client).all() == []


async def test_limits_are_kept_and_listed(redis_url: str, client: RedisClient) -> None:
    limits = ["--rate", "2.5", "--tasks", "7", "--bytes", "9000"]
    token(redis_url, "create", "--name", "x", "--can", "schedule", *limits)
    [kept] = await Tokens(client).all()
    assert kept.token is not None
    assert (kept.token.rate, kept.token.tasks, kept.token.task_bytes) == (2.5, 7, 9_000)
    assert "2.5/s, 7 tasks, 9000 bytes  nothing  never" in token(redis_url, "list")
    store, mine = Store(client, "writer"), TOKEN_MARK + kept.id
    for said in ("1 task, ", "2 tasks, "):
        await store.schedule([new_task(60_000, mine)])
        size = int(await client.command("HGET", KEYS.owned(kept.id), ".bytes"))
        assert f"  {said}{size} bytes  never" in token(redis_url, "list")
    await store.purge()
    await client.command("SET", KEYS.owned(kept.id), "foreign")
    assert "  nothing  never" in token(redis_url, "list")
    await client.command("UNLINK", KEYS.owned(kept.id))
    await client.command("UNLINK", KEYS.tokens)
