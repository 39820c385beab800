"""Logs: one event a line, with fields; JSON for machines, text for a person at a terminal.

Call `logger.warning("retry", key=key, attempt=2)` (see Events). A line holds no secret and no payload; a URL goes in
without its query (`location`), an answer with its beginning only (delivery/echoes.py).
"""

import json
import logging
import sys
import time
import traceback
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import msgspec

_encode_text = msgspec.json.Encoder(enc_hook=str).encode


def _encode(content: Any) -> bytes:
    try:
        return _encode_text(content)
    except UnicodeEncodeError:  # a key from foreign hands that is no UTF-8
        return json.dumps(content, default=str).encode()


def location(url: str) -> str:
    """The URL as it may be logged: scheme, host, port and path; no credentials, query or fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


SECONDS_KNOWN = 1_000
"""Seconds whose text is kept: many tasks are due in the same ones."""


def rfc3339(milliseconds: int) -> str:
    """Return a time since 1970 as text, in UTC."""
    return _whole_second(milliseconds // 1000) + _ENDS[milliseconds % 1000]


_ENDS = tuple(f".{number:03d}Z" for number in range(1000))
"""By the milliseconds: writing them takes as long as all else."""


@lru_cache(SECONDS_KNOWN)
def _whole_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = dict(getattr(record, "fields", {}))
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        trace = "".join(traceback.format_exception(error))
        fields = {**fields, "error": f"{type(error).__name__}: {error}", "traceback": trace}
    return fields


class JsonFormatter(logging.Formatter):
    """One JSON object a line: at (RFC 3339, UTC), level, logger, event, then the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for one record."""
        line = {
            "at": rfc3339(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage().strip(),
        }
        return _encode({**line, **_fields(record)}).decode()


class TextFormatter(logging.Formatter):
    """`12:00:00.123 INFO event key=value …`: what a person reads."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for one record."""
        at = time.strftime("%H:%M:%S", time.localtime(record.created)) + f".{int(record.msecs):03d}"
        fields = _fields(record)
        trace = fields.pop("traceback", "")
        shown = "".join(f" {name}={_quoted(value)}" for name, value in fields.items())
        return f"{at} {record.levelname:<7} {record.getMessage().strip()}{shown}\n{trace}".rstrip()


def _quoted(value: Any) -> str:
    text = str(value)
    return _encode(text).decode() if not text.isprintable() or " " in text else text


def configure(level: str, log_format: str | None, process: int | None = None) -> None:
    """Send the program's logs to stderr at `level`, as `text` or `json` (None: text on a terminal, else JSON).

    `process` becomes a field of each line: the id of the process that wrote it.
    """
    handler = logging.StreamHandler(sys.stderr)
    as_text = log_format == "text" or (log_format is None and sys.stderr.isatty())
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    if process is not None:
        handler.addFilter(_signer(process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # uvicorn's lines about start and stop repeat ours, and any stranger can cause its warnings. Its errors are shown.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _signer(process: int) -> Callable[[logging.LogRecord], bool]:
    def sign(record: logging.LogRecord) -> bool:
        vars(record)["fields"] = {**getattr(record, "fields", {}), "process": process}
        return True

    return sign


class Events:
    """The log of one module: each line is an event by its name, with fields.

    `logger = Events(__name__)`; `logger.warning("retry", key=key, attempt=2)`.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self.isEnabledFor = self._logger.isEnabledFor

    def log(self, level: int, event: str, /, **fields: object) -> None:
        """Log an event."""
        self._logger.log(level, event, extra={"fields": fields})

    def debug(self, event: str, /, **fields: object) -> None:
        """Log what only a search for a fault wants."""
        self._logger.debug(event, extra={"fields": fields})

    def info(self, event: str, /, **fields: object) -> None:
        """Log what goes as it should."""
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, /, **fields: object) -> None:
        """Log what an operator should know of."""
        self._logger.warning(event, extra={"fields": fields})

    def error(self, event: str, /, **fields: object) -> None:
        """Log what has failed."""
        self._logger.error(event, extra={"fields": fields})

    def exception(self, event: str, /, **fields: object) -> None:
        """Log what has failed, with the error that is being handled."""
        self._logger.error(event, exc_info=sys.exception(), extra={"fields": fields})

    def fault(self, event: str, problem: BaseException, /, **fields: object) -> None:
        """Log an error of the program."""
        self._logger.error(event, exc_info=problem, extra={"fields": fields})

    def critical(self, event: str, problem: BaseException, /, **fields: object) -> None:
        """Log the error that ends the process."""
        self._logger.critical(event, exc_info=problem, extra={"fields": fields})
