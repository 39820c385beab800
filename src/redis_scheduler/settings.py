"""The settings: every option of the service, declared once with its variable, default, rule and help text.

`load` reads options first, then the environment (an empty variable is an unset one), then the defaults, and raises
SettingsError with one line a problem. The result is frozen.
"""

import dataclasses
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis_scheduler.errors import SettingsError

ALL, API, WORKER = "all", "api", "worker"
ROLES = (ALL, API, WORKER)

TEN_YEARS_S = 10 * 365 * 86_400


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


def _choice(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return text.lower()

    return parse


def _redis_url(text: str) -> str:
    # Here, so that the command's help, version and health check need not load the client.
    from redis.asyncio import ConnectionPool

    try:
        parts = urlsplit(text)
        ConnectionPool.from_url(text).make_connection()
        # The library takes another path for database 0, and no path for a socket of no name.
        is_valid = bool(re.fullmatch(r"/.+" if parts.scheme == "unix" else r"(/[0-9]*)?", parts.path))
    except Exception:  # the library raises whatever a bad part made it raise
        is_valid = False
    if not is_valid:
        # Without the text, and without the library's message: both may hold the password.
        raise ValueError("must look like redis://host:6379/0, rediss://host:6379/0 or unix:///path.sock")
    return text


def _token(text: str) -> str:
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("must be visible ASCII characters without spaces")
    return text


def _option(variable: str, default: Any, parse: Callable[[str], Any], help_text: str, shown: str = "") -> Any:
    return field(
        default=default,
        metadata={"variable": variable, "parse": parse, "help": help_text, "default": shown or f"{default}"},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The validated settings of one process. Times are in seconds, sizes in bytes."""

    redis_url: str | None = _option(
        "REDIS_URL",
        None,
        _redis_url,
        "Redis or Valkey to use: redis://, rediss:// or unix://",
        "none: a private Redis is started in DATA_DIR",
    )
    api_auth: str | None = _option(
        "API_AUTH",
        None,
        _token,
        "token that API requests must carry, and that deliveries carry",
        "none: a token is made and kept in DATA_DIR",
    )
    port: int = _option("PORT", 8080, _integer(0, 65_535), "port of the API; 0 takes a free one")
    host: str | None = _option(
        "HOST", None, str, "address to listen on", "127.0.0.1 without API_AUTH, all interfaces with it"
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
    timeout: float = _option("TIMEOUT", 10, _seconds(0.001, 86_400), "seconds for one attempt, connection to last byte")
    concurrency: int = _option(
        "CONCURRENCY", 200, _integer(1, 10_000), "deliveries in flight at once, per worker process"
    )
    processes: int = _option(
        "PROCESSES", 1, _integer(1, 64), "processes of the role, under one supervisor that replaces what dies"
    )
    max_body: int = _option("MAX_BODY", 1_048_576, _integer(1, 256 * 1_048_576), "bytes of a request body")
    shutdown_grace: float = _option(
        "SHUTDOWN_GRACE", 15, _seconds(0, 3_600), "seconds to finish what is in flight when stopping"
    )
    data_dir: Path = _option(
        "DATA_DIR",
        Path("./redis-scheduler-data"),
        Path,
        "folder of the embedded Redis",
        "./redis-scheduler-data",
    )
    log_level: str = _option(
        "LOG_LEVEL", "info", _choice("debug", "info", "warning", "error"), "debug, info, warning or error"
    )
    log_format: str | None = _option(
        "LOG_FORMAT", None, _choice("text", "json"), "text or json", "text on a terminal, else json"
    )

    @property
    def listen_host(self) -> str:
        """The address to listen on: HOST, or loopback when the token is one we made ourselves."""
        return self.host or ("0.0.0.0" if self.api_auth else "127.0.0.1")  # noqa: S104  # the contract's default


def load(
    role: str, options: Mapping[str, str | None] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings for one role; `options` holds option texts by field name, None where not given.

    Raises SettingsError with one line for each problem, so that all can be mended at once.
    """
    options = options or {}
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    problems: list[str] = []
    for setting in dataclasses.fields(Settings):
        variable = setting.metadata["variable"]
        text = options.get(setting.name)
        text = environment.get(variable, "") if text is None else text
        if not text:
            continue
        try:
            values[setting.name] = setting.metadata["parse"](text)
        except ValueError as error:
            # The text of a secret setting is not repeated.
            shown = "" if setting.name in ("redis_url", "api_auth") else f"={text[:60]}"
            problems.append(f"{variable}{shown}: {error}")
    if role != ALL:
        problems += [
            f"{variable}: must be set for `redis-scheduler {role}`"
            for name, variable in (("redis_url", "REDIS_URL"), ("api_auth", "API_AUTH"))
            if name not in values and not any(problem.startswith(variable) for problem in problems)
        ]
    if problems:
        raise SettingsError(problems)
    return Settings(**values)


def variables(settings: Settings) -> dict[str, str]:
    """Return the variables from which `load` makes the same settings."""
    values = {setting.metadata["variable"]: getattr(settings, setting.name) for setting in dataclasses.fields(settings)}
    return {variable: "" if value is None else str(value) for variable, value in values.items()}


def hazards(settings: Settings) -> list[str]:
    """Return a warning for each pair of settings that is allowed but works against its user."""
    found = []
    if settings.shutdown_grace < settings.timeout:
        found.append(
            f"SHUTDOWN_GRACE={settings.shutdown_grace:g} is shorter than TIMEOUT={settings.timeout:g}: "
            "a delivery that is cut off by a stop is made again"
        )
    return found
