"""One setting: how it is declared, and where its text comes from; what the text must be like says rule.py.

An option comes first, then the environment, where an empty variable counts as unset. A secret may also stand in a file
that a variable names; no error shows its text.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

SECRET_BYTES = 65_536
"""A file that holds a secret may not be larger."""


def option(
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


def value_of(about: Mapping[str, Any], option: str | None, environment: Mapping[str, str]) -> Any:
    """Return the value that was given for a setting, or None. Raises ValueError whose text is the whole line to
    show."""
    variable = about["variable"]
    text = environment.get(variable, "") if option is None else option
    path = environment.get(f"{variable}_FILE", "") if about["is_secret"] and option is None else ""
    if path and text:
        raise ValueError(f"{variable} and {variable}_FILE: only one of them may be set")
    label = f"{variable}_FILE={path}" if path else variable if about["is_secret"] else f"{variable}={text[:60]}"
    try:
        text = read_secret(path) if path else text
        return about["parse"](text) if text else None
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting: a pipe that has no writer reads as empty."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor


def read_secret(path: str, limit: int = SECRET_BYTES) -> str:
    """Return the text of a file without the end of its last line. Raises ValueError."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            content = file.read(limit + 1)
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError("must be UTF-8 text") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if len(content) > limit:
        raise ValueError(f"is larger than {limit} bytes")
    if not text:
        raise ValueError("is empty")
    return text
