"""What a task may say of its labels: short names with values, such as an order or a user, that lists find it by."""

import re
from collections.abc import Mapping

from redis_scheduler.task.given import quoted

LABELS_MOST = 4

NAME_LENGTH = 32
VALUE_LENGTH = 64

LABELS_RULE = f"must be an object of 1 to {LABELS_MOST} texts by names of 1 to {NAME_LENGTH} letters, digits, _, - or ."

_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{NAME_LENGTH}}}")


def labels_problem(labels: Mapping[str, str]) -> str:
    """Return what is wrong with the labels of a task, or nothing."""
    if not 1 <= len(labels) <= LABELS_MOST:
        return f"must be 1 to {LABELS_MOST} labels, got {len(labels)}"
    for name, value in labels.items():
        if _NAME.fullmatch(name) is None:
            return f"must have names of 1 to {NAME_LENGTH} letters, digits, _, - or ., got {quoted(name)}"
        if not 1 <= len(value) <= VALUE_LENGTH or not value.isprintable():
            return f"{name} must be 1 to {VALUE_LENGTH} printable characters, got {quoted(value)}"
    return ""


LABEL_MARK = "\t"
"""The index of a label has a name that begins so; no type's does, since it cannot be printed."""


def index_of(label: str) -> str:
    """Return the name under which tasks with a label, `name=value`, are listed: no type's, since it begins with what
    cannot be printed."""
    return LABEL_MARK + label


def index_title(name: str) -> str:
    """Return what an index is called that has this name."""
    return f"label {name[1:]}" if name.startswith(LABEL_MARK) else f"type {name}"
