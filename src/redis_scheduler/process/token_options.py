"""What the command `redis-scheduler token` takes."""

import argparse
import re
from collections.abc import Callable
from typing import Any

from redis_scheduler.store.token import RIGHTS
from redis_scheduler.task.alert import ALERT_TYPE
from redis_scheduler.task.timing import TEN_YEARS_S

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_ID = re.compile(r"[0-9a-f]{10}")
_NAME_LENGTH = 64
_TYPES_MOST = 50


def add_token(roles: Any, options: argparse.ArgumentParser) -> None:
    """Add the command; `options` are those of the settings that it needs."""
    token = roles.add_parser(
        "token",
        help="make, list, change and revoke tokens with rights; show what receivers need",
        description="Tokens for those who may not do all that API_AUTH may. See docs/howto/tokens.md.",
        epilog="Exit code: 0 done; 1 there is no such token, or Redis cannot be reached; 2 something given is wrong.",
        parents=[options],
    )
    token.add_argument(
        "--delivery",
        action="store_true",
        help="show what deliveries carry in Authorization with DELIVERY_AUTH=derived: made of API_AUTH, or of the token in "
        "DATA_DIR, and refused by the API",
    )
    token.add_argument(
        "--public-key",
        action="store_true",
        help="show the public keys (whpk_…) by which receivers check signatures: those of the whsk_ keys in WEBHOOK_SECRET "
        "and WEBHOOK_SECRETS_FILE",
    )
    verbs = token.add_subparsers(dest="verb", metavar="command", title="commands")

    def add(verb: str, text: str) -> argparse.ArgumentParser:
        found: argparse.ArgumentParser = verbs.add_parser(verb, help=text, description=text, parents=[options])
        return found

    _add_create(add("create", "make a token; print it, which is the only time that it is shown"))
    add("list", "list the tokens: ids, names, rights, end, last use")
    revoke = add("revoke", "delete a token; within a second no process takes it")
    revoke.add_argument("id", type=_token_id)
    rotate = add("rotate", "give a token a new text, and print that; the one before is taken for a while")
    rotate.add_argument("id", type=_token_id)
    rotate.add_argument(
        "--overlap",
        type=_duration,
        default=3_600,
        metavar="TIME",
        help="for how long it is; default 1h; 0s: not at all",
    )


def _add_create(create: argparse.ArgumentParser) -> None:
    create.add_argument("--name", required=True, type=_name, help="whom it is for")
    create.add_argument(
        "--can", required=True, type=_rights, metavar="RIGHTS", help=f"what it may do, of {', '.join(RIGHTS)}"
    )
    create.add_argument(
        "--types", type=_types, default=(), metavar="TYPES", help="the types of the tasks that it sees; else all"
    )
    create.add_argument(
        "--limit-keys",
        type=_limit_keys,
        default=(),
        metavar="KEYS",
        help="what its tasks may name as `limit_key`, each also with `:` and more behind it; else none, unless it may admin",
    )
    create.add_argument(
        "--rate", type=_rate, default=0, help="how many tasks it may schedule, or replay, a second; else any number"
    )
    create.add_argument(
        "--tasks",
        type=_tasks,
        default=0,
        help="how many of its tasks may wait when it brings more; else any number",
    )
    create.add_argument(
        "--bytes",
        type=_task_bytes,
        default=0,
        help="how many bytes the records of its waiting tasks may have when it brings more; else any number",
    )
    create.add_argument(
        "--expires", type=_duration, metavar="TIME", help="for how long, such as 12h or 90d; else for ever"
    )


TOKEN_ARGUMENTS = (
    "delivery",
    "public_key",
    "verb",
    "name",
    "can",
    "types",
    "limit_keys",
    "rate",
    "tasks",
    "bytes",
    "expires",
    "id",
    "overlap",
)
"""What is given to the command and is no setting."""


def _checked(rule: str) -> Callable[[Callable[[str], Any]], Callable[[str], Any]]:
    """Have a function that raises ValueError for wrong text say the rule."""

    def decorate(parse: Callable[[str], Any]) -> Callable[[str], Any]:
        def checked(text: str) -> Any:
            try:
                return parse(text)
            except ValueError:
                raise argparse.ArgumentTypeError(f"{rule}, got {text[:100]!r}") from None

        return checked

    return decorate


@_checked(f"must be 1 to {_NAME_LENGTH} printable characters")
def _name(text: str) -> str:
    if not (0 < len(text) <= _NAME_LENGTH and text.isprintable()):
        raise ValueError
    return text


@_checked(f"must be rights with commas between: {', '.join(RIGHTS)}")
def _rights(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if not RIGHTS.keys() >= set(found):
        raise ValueError
    return tuple(name for name in RIGHTS if name in found)


@_checked("must be a number of tasks a second from 0.01 to 1000000")
def _rate(text: str) -> float:
    rate = float(text)
    if not 0.01 <= rate <= 1_000_000:
        raise ValueError
    return rate


@_checked("must be a whole number of tasks from 1 to 1000000000")
def _tasks(text: str) -> int:
    tasks = int(text)
    if not 1 <= tasks <= 1_000_000_000:
        raise ValueError
    return tasks


@_checked("must be a whole number of bytes from 1 to 1000000000000")
def _task_bytes(text: str) -> int:
    task_bytes = int(text)
    if not 1 <= task_bytes <= 1_000_000_000_000:
        raise ValueError
    return task_bytes


@_checked(f"must be 1 to {_TYPES_MOST} different types with commas between, none of them {ALERT_TYPE}")
def _types(text: str) -> tuple[str, ...]:
    from redis_scheduler.api.requests import check_new_type
    from redis_scheduler.errors import InvalidField

    found = tuple(text.split(","))
    try:
        for name in found:
            check_new_type(name)
    except InvalidField:
        raise ValueError from None
    if len(found) > _TYPES_MOST or len(set(found)) < len(found):
        raise ValueError
    return found


@_checked(f"must be 1 to {_TYPES_MOST} different limit keys with commas between")
def _limit_keys(text: str) -> tuple[str, ...]:
    from redis_scheduler.task.options import LIMIT_KEY

    found = tuple(text.split(","))
    if not all(re.search(LIMIT_KEY, name) for name in found) or not len(set(found)) == len(found) <= _TYPES_MOST:
        raise ValueError
    return found


@_checked("must be a number with s, m, h or d behind it, such as 90d, and at most ten years")
def _duration(text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError
    seconds = int(found[1]) * _UNITS[found[2]]
    if seconds > TEN_YEARS_S:
        raise ValueError
    return seconds


@_checked("must be the id of a token, ten hexadecimal digits, as `token list` shows it")
def _token_id(text: str) -> str:
    if _ID.fullmatch(text) is None:
        raise ValueError
    return text
