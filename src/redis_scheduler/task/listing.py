"""Under which names a task is listed while it is to be delivered: that of its type, those of its labels, that of all
series if it is one, and that of the token whose task it is."""

from msgspec import UNSET

from redis_scheduler.task.label import index_of, index_title
from redis_scheduler.task.options import NONE, Options

Listing = str | tuple[str, ...] | None
"""The names of a task's indexes, in this order: its type, if that is not the default, each label (label.py), SERIES,
and its token. One stands alone; None: none."""

SERIES = "\r"
"""The name under which all series are listed. No type's, label's or token's is like it: see TOKEN_MARK."""

TOKEN_MARK = "\n"  # noqa: S105 - what names begin with
"""The index of a token has a name that begins so; no type's does, since it cannot be printed, and no label's."""

LABEL_BYTES = 4_096
"""To list a task by a label takes Redis about as long as to take so many bytes of a record."""


def listing_bytes(listed: Listing) -> int:
    """Return how many bytes of a record take as long as to list a task under these names."""
    return 0 if listed is None or isinstance(listed, str) else LABEL_BYTES * len(listed)


def labels_bytes(options: Options) -> int:
    """Return how many bytes of a record take as long as to list a task under its labels, or no longer to."""
    return 0 if options is NONE or options.labels is UNSET else LABEL_BYTES * len(options.labels)


def listing_of(type_name: str | None, options: Options, token: str | None = None) -> Listing:
    """Return under which names a task with this type (None: the default), these options and this token is listed."""
    if token is None and (options is NONE or (options.labels is UNSET and options.repeat is UNSET)):
        return type_name
    names = [] if type_name is None else [type_name]
    if options.labels is not UNSET:
        names += (index_of(f"{name}={value}") for name, value in options.labels.items())
    if options.repeat is not UNSET:
        names.append(SERIES)
    if token is not None:
        names.append(TOKEN_MARK + token)
    return tuple(names) if len(names) > 1 or options.labels is not UNSET else names[0]


def is_series(listed: Listing) -> bool:
    """Whether a task that is listed under these names is a series."""
    return listed is not None and SERIES in listed


def name_shown(name: str) -> str:
    """Return what an index is called that has this name."""
    if name == SERIES:
        return "kind series"
    return f"token {name[1:]}" if name.startswith(TOKEN_MARK) else index_title(name)
