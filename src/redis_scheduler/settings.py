"""The settings: every option of the service, declared once with its variable, default, rule and help text.

`load` takes options first, then the environment (an empty variable counts as unset), then the defaults, and raises
SettingsError with one line for each problem. The result is frozen. A secret may also stand in a file that a variable
names; no error shows its text. The token cannot be an option: other users can read a command line.
"""

import dataclasses
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from redis_scheduler.errors import SettingsError
from redis_scheduler.store import url as redis_url
from redis_scheduler.store.url import validated
from redis_scheduler.task.options import Backoff
from redis_scheduler.task.policy import TEN_YEARS_MS, Policy
from redis_scheduler.task.statuses import statuses
from redis_scheduler.task.timing import TEN_YEARS_S, TIMEOUT_LONGEST_S

ALL, API, WORKER = "all", "api", "worker"


SECRET_BYTES = 65_536
"""A file that holds a secret may not be larger."""

TOKEN_LENGTH = 16
"""So many random characters cannot be guessed: some 95 bits."""


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"must be a number of seconds from {low:g} to {high:g}")
        return value

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    parse_number = _seconds(low, high)

    def parse(text: str) -> float:
        try:
            return parse_number(text)
        except ValueError:
            raise ValueError(f"must be a number from {low:g} to {high:g}") from None

    return parse


def _statuses(text: str) -> str:
    statuses(text)
    return text


def _choice(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return text.lower()

    return parse


def _token(text: str) -> str:
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("must be visible ASCII characters without spaces")
    return text


_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


def _namespace(text: str) -> str:
    # No character that a hash tag, or a pattern of keys in an ACL, gives a meaning of its own.
    if _NAMESPACE.fullmatch(text) is None:
        raise ValueError("must be up to 32 small letters, digits and hyphens, and not begin with a hyphen")
    return text


def _host(text: str) -> str:
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        host.encode("idna")  # as the look-up of the name will
    except UnicodeError:
        raise ValueError("must be an address or the name of a host") from None
    return host


def _folder(text: str) -> Path:
    try:
        text.encode()
    except UnicodeError:
        raise ValueError("must be UTF-8 text") from None  # logs, which are UTF-8, name it
    return Path(text)


def _option(
    variable: str,
    default: Any,
    parse: Callable[[str], Any],
    help_text: str,
    shown: str = "",
    is_secret: bool = False,
    is_public: bool = True,
) -> Any:
    """Declare a setting. A secret may also stand in a file; without `is_public` there is no option of the command
    line."""
    return field(
        default=default,
        metadata={
            "variable": variable,
            "parse": parse,
            "help": f"{help_text}; or {variable}_FILE, a file that holds it" if is_secret else help_text,
            "default": shown or f"{default}",
            "is_secret": is_secret,
            "is_public": is_public,
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The validated settings of one process. Times are in seconds, sizes in bytes."""

    redis_url: str | None = _option(
        "REDIS_URL",
        None,
        validated,
        "Redis or Valkey to use: redis://, rediss:// or unix://",
        "none: a private Redis is started in DATA_DIR",
        is_secret=True,
    )
    namespace: str = _option(
        "NAMESPACE", "", _namespace, "name of this deployment among several on one Redis", "none: the only one"
    )
    api_auth: str | None = _option(
        "API_AUTH",
        None,
        _token,
        "token that API requests must carry, and that deliveries carry",
        "none: a token is made and kept in DATA_DIR",
        is_secret=True,
        is_public=False,
    )
    port: int = _option("PORT", 8080, _integer(0, 65_535), "port of the API; 0 takes a free one")
    host: str | None = _option(
        "HOST", None, _host, "address to listen on", "127.0.0.1 without API_AUTH, all interfaces with it"
    )
    retries: int = _option(
        "RETRIES",
        5,
        _integer(-1, 1_000_000),
        "retry attempts after the first; -1 retries for ever, 0 never",
    )
    retry_time: float = _option(
        "RETRY_TIME", 60, _seconds(0, TEN_YEARS_S), "seconds between the end of a failed attempt and the next"
    )
    retry_backoff: Backoff = _option(
        "RETRY_BACKOFF",
        "fixed",
        _choice("fixed", "linear", "exponential"),
        "fixed, linear or exponential: how the delay grows with each retry",
    )
    retry_max: float | None = _option(
        "RETRY_MAX", None, _seconds(0.001, TEN_YEARS_S), "seconds of the longest delay that grows", "none"
    )
    retry_jitter: float | None = _option(
        "RETRY_JITTER",
        None,
        _number(0, 1),
        "up to this share of each delay is left out, by chance",
        "0 for fixed delays, else 0.1",
    )
    retry_for: float | None = _option(
        "RETRY_FOR", None, _seconds(0.001, TEN_YEARS_S), "no retry so many seconds after the due time", "none"
    )
    retry_after_most: float = _option(
        "RETRY_AFTER_MOST",
        86_400,
        _seconds(0, TEN_YEARS_S),
        "seconds that Retry-After of a 429 or 503 can put the next attempt off; 0: it does not count",
    )
    final_statuses: str = _option(
        "FINAL_STATUSES", "none", _statuses, "answers that no retry follows, such as 410 or 400-499,!429"
    )
    timeout: float = _option(
        "TIMEOUT", 10, _seconds(0.001, TIMEOUT_LONGEST_S), "seconds for one attempt, connection to last byte"
    )
    max_timeout: float = _option(
        "MAX_TIMEOUT", 900, _seconds(0.001, TIMEOUT_LONGEST_S), "seconds of the longest `timeout` that a task may have"
    )
    concurrency: int = _option(
        "CONCURRENCY", 200, _integer(1, 10_000), "deliveries in flight at once, per worker process"
    )
    processes: int = _option(
        "PROCESSES", 1, _integer(1, 64), "processes of the role, under one supervisor that replaces what dies"
    )
    max_body: int = _option("MAX_BODY", 1_048_576, _integer(1, 256 * 1_048_576), "bytes of a request body")
    idempotency_ttl: float = _option(
        "IDEMPOTENCY_TTL",
        86_400,
        _seconds(60, 2_592_000),
        "seconds within which a request with the same Idempotency-Key gets the first answer again",
    )
    idempotency_bytes: int = _option(
        "IDEMPOTENCY_BYTES",
        67_108_864,
        _integer(1_048_576, 2**50),
        "bytes of Redis that these keys may take, some 340 each; none is dropped early",
    )
    api_connections: int | None = _option(
        "API_CONNECTIONS",
        None,
        _integer(4, 1_000_000),
        "connections to the API at once, per process; at most half the limit of open files where deliveries are made "
        "too",
        "10000, or as many as the limit of open files allows",
    )
    dead_ttl: float = _option(
        "DEAD_TTL", 2_592_000, _seconds(0, TEN_YEARS_S), "seconds that a dead letter is kept; 0 keeps none"
    )
    dead_bytes: int = _option(
        "DEAD_BYTES", 268_435_456, _integer(0, 2**50), "bytes of Redis that dead letters may take; 0 keeps none"
    )
    result_ttl: float = _option(
        "RESULT_TTL",
        3600,
        _seconds(0, TEN_YEARS_S),
        "seconds that a summary of a delivered or cancelled task is kept; 0 keeps none",
    )
    result_bytes: int = _option(
        "RESULT_BYTES", 67_108_864, _integer(1_024, 2**50), "bytes of Redis that such summaries may take"
    )
    answer_bytes: int = _option(
        "ANSWER_BYTES", 1024, _integer(0, 1024), "bytes that are kept of the answer to each failed attempt"
    )
    shutdown_grace: float = _option(
        "SHUTDOWN_GRACE", 15, _seconds(0, 3_600), "seconds to finish what is in flight when stopping"
    )
    data_dir: Path = _option(
        "DATA_DIR",
        Path("./redis-scheduler-data"),
        _folder,
        "folder of the private Redis",
        "./redis-scheduler-data",
    )
    log_level: str = _option(
        "LOG_LEVEL", "info", _choice("debug", "info", "warning", "error"), "debug, info, warning or error"
    )
    log_format: str | None = _option(
        "LOG_FORMAT", None, _choice("text", "json"), "text or json", "text on a terminal, else json"
    )

    @property
    def policy(self) -> Policy:
        """How failed attempts are repeated, unless a task says it for itself."""
        return Policy(
            self.retries,
            round(self.retry_time * 1000),
            self.retry_backoff,
            TEN_YEARS_MS if self.retry_max is None else round(self.retry_max * 1000),
            self.retry_jitter,
            None if self.retry_for is None else round(self.retry_for * 1000),
            final=statuses(self.final_statuses),
            after_most_ms=round(self.retry_after_most * 1000),
        )

    @property
    def listen_host(self) -> str:
        """The address to listen on: HOST, else all interfaces, or only loopback where the service made the token
        itself."""
        return self.host or ("::" if self.api_auth else "127.0.0.1")


def load(
    role: str, options: Mapping[str, str | None] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings for one role; `options` holds the texts of options by field name, None where not given.

    Raises SettingsError with a line for each problem, so that all can be mended at once.
    """
    options = options or {}
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    problems: list[str] = []
    for setting in dataclasses.fields(Settings):
        try:
            value = _value(setting.metadata, options.get(setting.name), environment)
        except ValueError as error:
            problems.append(str(error))
        else:
            if value is not None:
                values[setting.name] = value
    if role != ALL:
        problems += [
            f"{variable}: must be set for `redis-scheduler {role}`, or {variable}_FILE"
            for name, variable in (("redis_url", "REDIS_URL"), ("api_auth", "API_AUTH"))
            if name not in values and not any(problem.startswith(variable) for problem in problems)
        ]
    if problems:
        raise SettingsError(problems)
    return Settings(**values)


def _value(about: Mapping[str, Any], option: str | None, environment: Mapping[str, str]) -> Any:
    """Return the value that was given for a setting, or None. Raises ValueError whose text is the whole line to
    show."""
    variable = about["variable"]
    text = environment.get(variable, "") if option is None else option
    path = environment.get(f"{variable}_FILE", "") if about["is_secret"] and option is None else ""
    if path and text:
        raise ValueError(f"{variable} and {variable}_FILE: only one of them may be set")
    label = f"{variable}_FILE={path}" if path else variable if about["is_secret"] else f"{variable}={text[:60]}"
    try:
        text = _secret(path) if path else text
        return about["parse"](text) if text else None
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting: a pipe that has no writer reads as empty."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor


def _secret(path: str) -> str:
    """Return the text of a file without the end of its line."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            content = file.read(SECRET_BYTES + 1)
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError("must be UTF-8 text") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if len(content) > SECRET_BYTES:
        raise ValueError(f"is larger than {SECRET_BYTES} bytes")
    if not text:
        raise ValueError("is empty")
    return text


def variables(settings: Settings) -> dict[str, str]:
    """Return the variables from which `load` makes the same settings."""
    found = {}
    for setting in dataclasses.fields(settings):
        variable, value = setting.metadata["variable"], getattr(settings, setting.name)
        found[variable] = "" if value is None else str(value)
        if setting.metadata["is_secret"]:
            found[f"{variable}_FILE"] = ""
    return found


def hazards(settings: Settings, token: str = "", listens: bool = False) -> list[str]:
    """Return a warning for each pair of settings that is allowed but harms its user.

    `token` is the one in use, set or made; `listens` says whether the process has an API.
    """
    found = []
    if names := redis_url.overridden(settings.redis_url or ""):
        found.append(f"REDIS_URL: without effect, since the service sets them itself: {', '.join(names)}")
    if settings.shutdown_grace < settings.timeout:
        found.append(
            f"SHUTDOWN_GRACE={settings.shutdown_grace:g} is shorter than TIMEOUT={settings.timeout:g}: "
            "a delivery that is cut off by a stop is made again"
        )
    if listens and len(token) < TOKEN_LENGTH and not _is_loopback(settings.listen_host):
        found.append(
            f"API_AUTH is shorter than {TOKEN_LENGTH} characters, and the API listens on {settings.listen_host} where "
            "whoever can reach it may guess the token; make a longer one, such as with `openssl rand -hex 16`"
        )
    return found


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address. A name other than localhost may stand for any address."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
