"""The rules that texts of settings must keep: each makes a text a value, or raises ValueError that says the rule."""

import math
import re
from binascii import a2b_base64
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from redis_scheduler.delivery.egress import rules
from redis_scheduler.delivery.proxy import ENVIRONMENT, proxy_at
from redis_scheduler.delivery.signature import signers
from redis_scheduler.errors import InvalidField
from redis_scheduler.task.header import SECRET_NAME
from redis_scheduler.task.key import SHARDS_MOST
from redis_scheduler.task.options import SHORTEST_S
from redis_scheduler.task.statuses import statuses


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return the rule for a whole number."""

    def parse(text: str) -> int:
        try:
            value = int(_as_usual(text))
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return parse


def _as_usual(text: str) -> str:
    """Return the text of a number, but for spellings that are Python's: `1_0` and the digits of other scripts."""
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return text


def number(low: float, high: float, what: str = "a number") -> Callable[[str], float]:
    """Return the rule for a number."""

    def parse(text: str) -> float:
        try:
            value = float(_as_usual(text))
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"must be {what} from {low:.10g} to {high:.10g}")
        return value

    return parse


def badge(text: str) -> str:
    """Return a short name as it was given."""
    if len(text) > 30 or not text.isprintable():
        raise ValueError("must be at most 30 printable characters")
    return text


def url_path(text: str) -> str:
    """Return the path of a URL without the slash at its end."""
    path = text.rstrip("/")
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", path):
        raise ValueError("must be a path, such as /jobs, of letters, digits and . _ ~ -")
    return path


def networks(text: str) -> str:
    """Return a list of networks as it was given."""
    try:
        for one in text.split():
            ip_network(one)
    except ValueError:
        raise ValueError("must be addresses or networks, such as 10.0.0.0/8, with spaces between") from None
    return text


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Return the rule for a number of seconds, 1 ms at least if it is not 0."""
    if low:
        return number(low, high, "a number of seconds")
    parse_above_0 = number(SHORTEST_S, high, "0, or a number of seconds")
    return lambda text: 0.0 if _is_0(text) else parse_above_0(text)


def _is_0(text: str) -> bool:
    try:
        return float(text) == 0
    except ValueError:
        return False


def status_list(text: str) -> str:
    """Return a list of statuses as it was given."""
    statuses(text)
    return text


def egress_rules(text: str) -> str:
    """Return rules of the egress guard as they were given."""
    rules(text)
    return text


def proxy_url(text: str) -> str:
    """Return the URL of a proxy, or `environment`, as it was given."""
    if text != ENVIRONMENT:
        proxy_at(text)
    return text


def http_url(text: str) -> str:
    """Return a URL of HTTP as it was given."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL, http://host or https://host")
    return text


def delivery_auth(text: str) -> str:
    """Return what deliveries carry in Authorization."""
    kind, colon, name = text.partition(":")
    if text.lower() in ("api", "derived", "none"):
        return text.lower()
    if kind.lower() != "secret" or not colon or SECRET_NAME.fullmatch(name.lower()) is None:
        raise ValueError("must be api, derived, none, or secret:NAME with the name of a secret")
    return text.lower()


def webhook_secrets(text: str) -> str:
    """Return secrets of signatures as they were given."""
    signers(text)
    return text


def choice(*names: str) -> Callable[[str], str]:
    """Return the rule for one of these names, in large or small letters."""

    def parse(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return text.lower()

    return parse


def names_of(*names: str) -> Callable[[str], str]:
    """Return the rule for some of these names, with commas between, as they are written here."""

    def parse(text: str) -> str:
        given = [name.strip() for name in text.lower().split(",")]
        if not set(given) <= set(names):
            raise ValueError(f"must be some of {', '.join(names)}, with commas between")
        return ",".join(name for name in names if name in given)

    return parse


def webhook_url(text: str) -> str:
    """Return the URL of a webhook, to which a task may be delivered."""
    from redis_scheduler.api.webhooks import check_webhook  # not for who sets none

    try:
        check_webhook(text)
    except InvalidField as error:
        raise ValueError(str(error).removeprefix("webhook: ")) from None
    return text


def visible_ascii(text: str) -> str:
    """Return a text that may stand in a header."""
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("must be visible ASCII characters without spaces")
    return text


def one_or_two_tokens(text: str) -> str:
    """Return a token that may stand in a header, or two with a space between."""
    tokens = text.split(" ")
    if len(tokens) > 2 or not all(tokens) or len(set(tokens)) < len(tokens):
        raise ValueError("must be one token, or two different ones with a space between while it is changed")
    for token in tokens:
        visible_ascii(token)
    return text


_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")


def origin_list(text: str) -> str:
    """Return a list of origins, as browsers send them, with spaces between."""
    if not all(_ORIGIN.fullmatch(one) for one in text.split(" ")):
        raise ValueError("must be origins as browsers send them, https://shop.example, with spaces between")
    return text


DATA_KEYS_MOST = 16


def keys_in(text: str) -> list[bytes]:
    """Return the keys of a text that `data_keys` has taken."""
    return [bytes.fromhex(key) if len(key) == 64 else a2b_base64(key) for key in text.split()]


def data_keys(text: str) -> str:
    """Return keys as they were given: each 32 bytes in base64 or hexadecimal digits. No error shows them."""
    try:
        keys = keys_in(text)
    except ValueError:
        keys = []
    if not 1 <= len(keys) <= DATA_KEYS_MOST or len(set(keys)) < len(keys) or any(len(key) != 32 for key in keys):
        raise ValueError(
            f"must be 1 to {DATA_KEYS_MOST} different keys with spaces between, each 32 bytes in base64 or hexadecimal "
            "digits, as of `openssl rand -base64 32`"
        )
    return text


_SHARD_RANGE = re.compile(r"([0-9]{1,2})(?:-([0-9]{1,2}))?")


def numbers_in(text: str) -> list[int]:
    """Return the numbers of shards that `shard_numbers` has taken. Raises ValueError where there are none."""
    found: list[int] = []
    for part in text.split(","):
        match = _SHARD_RANGE.fullmatch(part)
        numbers = range(int(match[1]), int(match[2] or match[1]) + 1) if match else ()
        if not numbers:
            raise ValueError(part)
        found += numbers
    return found


def shard_numbers(text: str) -> str:
    """Return numbers of shards as they were given."""
    try:
        numbers = numbers_in(text)
    except ValueError:
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers) or max(numbers) >= SHARDS_MOST:
        raise ValueError(f"must be numbers of shards from 0 to {SHARDS_MOST - 1}, each once, such as 0-3 or 0,2,5-7")
    return text


_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


def namespace_name(text: str) -> str:
    """Return the name of a deployment."""
    # No character that a hash tag, or a pattern of keys in an ACL, gives a meaning of its own.
    if _NAMESPACE.fullmatch(text) is None:
        raise ValueError("must be up to 32 small letters, digits and hyphens, and not begin with a hyphen")
    return text


def host_name(text: str) -> str:
    """Return an address, without brackets, or the name of a host."""
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        host.encode("idna")  # as the look-up of the name will
    except UnicodeError:
        raise ValueError("must be an address or the name of a host") from None
    return host


def folder(text: str) -> Path:
    """Return the path of a folder."""
    try:
        text.encode()
    except UnicodeError:
        raise ValueError("must be UTF-8 text") from None  # logs, which are UTF-8, name it
    return Path(text)
