"""The command `redis-scheduler token`: makes, lists, rotates and revokes tokens with rights."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from redis_scheduler.errors import OutputFailed, SchedulerError, SettingsError, StoreUnavailable
from redis_scheduler.logs import rfc3339
from redis_scheduler.process.command import all_shards_of, note, say, tell
from redis_scheduler.process.token import show_delivery_token, show_public_keys
from redis_scheduler.settings import Settings
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.token import FOREVER_MS, Token, digest_of, encode_token, new_id, new_text
from redis_scheduler.store.tokens import TOKENS_MOST, KeptToken, Share, Tokens, Written, sum_of

TRIES = 20
"""A change is tried so often, since others may change the token between its reading and its writing."""


async def manage_tokens(settings: Settings, given: dict[str, Any]) -> bool:
    """Do what the command says; return whether it was done. Raises SettingsError if it says nothing, or too much."""
    if [given["delivery"], given["public_key"], given["verb"] is not None].count(True) != 1:
        raise SettingsError(["token: say one of create, list, revoke, rotate, --delivery or --public-key"])
    if given["delivery"]:
        return show_delivery_token(settings)
    if given["public_key"]:
        return show_public_keys(settings)
    async with all_shards_of(settings, may_be_new=given["verb"] == "create") as (clients, _):
        client = clients[0]
        tokens = Tokens(client)
        match given["verb"]:
            case "create":
                token_id = await _create(tokens, given)
                await note(client, settings, "token create", token_id, name=given["name"], can=",".join(given["can"]))
                return True
            case "list":
                return await _list(tokens, clients[1:])
            case "revoke":
                done = await _revoke(tokens, given["id"])
            case _:
                done = await _rotate(tokens, given["id"], given["overlap"])
        if done:
            await note(client, settings, f"token {given['verb']}", given["id"])
        return done


async def _create(tokens: Tokens, given: dict[str, Any]) -> str:
    """Make a token; return its id."""
    if given["types"] and "purge" in given["can"]:
        raise SettingsError(["--can purge: without effect beside --types, since a purge deletes tasks of all types"])
    if given["limit_keys"] and ("schedule" not in given["can"] or ("admin" in given["can"] and not given["types"])):
        raise SettingsError(
            [
                f"--limit-keys {','.join(given['limit_keys'])}: without effect for a token that has not the right to "
                "schedule, or may give any by admin"
            ]
        )
    if (given["tasks"] or given["bytes"]) and "schedule" not in given["can"]:
        name = "tasks" if given["tasks"] else "bytes"
        raise SettingsError([f"--{name} {given[name]}: without effect for a token that has not the right to schedule"])
    if given["rate"] and not {"schedule", "replay"} & set(given["can"]):
        raise SettingsError(
            [f"--rate {given['rate']:g}: without effect for a token that has not the right to schedule, or to replay"]
        )
    token_id, now_ms = new_id(), await _now_ms(tokens.client)
    text = new_text(token_id)
    expires_s = given["expires"]
    token = Token(
        given["name"],
        digest_of(text.encode()),
        given["can"],
        now_ms,
        given["types"],
        rate=given["rate"],
        tasks=given["tasks"],
        task_bytes=given["bytes"],
        limit_keys=given["limit_keys"],
        expires=FOREVER_MS if expires_s is None else now_ms + expires_s * 1000,
    )
    done = await tokens.write(token_id, b"", token)
    if done is not Written.DONE:
        raise SchedulerError(f"There are {TOKENS_MOST} tokens, as many as there may be: revoke some")
    tell(f"The token {token_id} ({token.name}) may {', '.join(token.can)}. It is shown only now:")
    await _show(text, tokens, token_id, token, None)
    return token_id


async def _show(text: str, tokens: Tokens, token_id: str, token: Token, before: Token | None) -> None:
    """Print the text of a token; where that fails, put back what was there before."""
    try:
        say(text)
        sys.stdout.flush()
    except (OutputFailed, asyncio.CancelledError) as error:
        await tokens.write(token_id, encode_token(token), before)
        what = "no token was made" if before is None else "the token is as it was"
        error.args = (f"{error}; {what}",)
        raise


async def _list(tokens: Tokens, elsewhere: Sequence[RedisClient]) -> bool:
    rows: list[tuple[str, ...]] = [("id", "name", "may", "types", "limits", "waiting", "expires", "last used")]
    kept = await tokens.all()
    waiting = await tokens.waiting([one.id for one in kept])
    for other in elsewhere:
        try:
            more = await Tokens(other).waiting([one.id for one in kept])
        except StoreUnavailable as error:
            tell(f"Shard {other.keys.shard} is away: what waits there is not counted ({error}).")
        else:
            waiting = list(map(sum_of, zip(waiting, more, strict=True)))
    rows += map(_row, kept, waiting)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return True


def _row(kept: KeptToken, waiting: Share) -> tuple[str, ...]:
    token, used = kept.token, rfc3339(kept.used_ms) if kept.used_ms else "never"
    shown_id = kept.id if kept.id.isprintable() else ascii(kept.id)
    if token is None:
        return shown_id, "-", "nothing: another version made it, or foreign hands", "-", "-", "-", "-", used
    name = token.name if token.name.isprintable() else ascii(token.name)
    expires = "never" if token.expires == FOREVER_MS else rfc3339(token.expires)
    types = ",".join(token.types) or "all"
    limits = [f"{token.rate:g}/s"] * bool(token.rate) + [f"{token.tasks} tasks"] * bool(token.tasks)
    limits += [f"{token.task_bytes} bytes"] * bool(token.task_bytes)
    limits += [f"limit_key {name}" if name.isprintable() else ascii(name) for name in token.limit_keys]
    return (
        shown_id,
        name,
        ",".join(token.can),
        types if types.isprintable() else ascii(types),
        ", ".join(limits) or "none",
        f"{waiting.tasks} task{'s' * (waiting.tasks != 1)}, {waiting.bytes} bytes" if waiting.tasks else "nothing",
        expires,
        used,
    )


async def _revoke(tokens: Tokens, token_id: str) -> bool:
    kept = await _changed(tokens, token_id, lambda _: None)
    if kept is not None:
        tell(
            f"The token {token_id} is revoked: processes notice within a second, one without Redis within TOKEN_GRACE."
        )
    return kept is not None


async def _rotate(tokens: Tokens, token_id: str, overlap_s: int) -> bool:
    text, now_ms = new_text(token_id), await _now_ms(tokens.client)

    def rotated(kept: KeptToken) -> Token:
        if kept.token is None:
            raise SchedulerError(f"The token {token_id} cannot be read by this version: revoke it")
        return msgspec.structs.replace(
            kept.token,
            digest=digest_of(text.encode()),
            before=kept.token.digest if overlap_s else "",
            before_until=now_ms + overlap_s * 1000 if overlap_s else 0,
        )

    before = await _changed(tokens, token_id, rotated)
    if before is None:
        return False
    until = f"is taken until {rfc3339(now_ms + overlap_s * 1000)}" if overlap_s else "is no longer taken"
    tell(f"The text of {token_id} before {until}. The new one is shown only now:")
    await _show(text, tokens, token_id, rotated(before), before.token)
    return True


async def _changed(tokens: Tokens, token_id: str, change: Callable[[KeptToken], Token | None]) -> KeptToken | None:
    """Change a token as it is kept; None, and a line that says so, if there is none."""
    for _ in range(TRIES):
        kept = next((one for one in await tokens.all() if one.id == token_id), None)
        if kept is None:
            tell(f"There is no token with the id {token_id}.")
            return None
        if await tokens.write(token_id, kept.raw, change(kept)) is Written.DONE:
            return kept
    raise SchedulerError(f"Others change the token {token_id} all the time: try again")


async def _now_ms(client: RedisClient) -> int:
    now_ms: int = await client.command("TIME", read=redis_ms)
    return now_ms
