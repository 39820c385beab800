"""Under which names a task is listed while it is to be delivered: that of its type, and those of its labels."""

from msgspec import UNSET

from redis_scheduler.task.label import index_of
from redis_scheduler.task.options import NONE, Options

Listing = str | tuple[str, ...] | None
"""The names of a task's indexes: its type, if that is not the default, and each label (label.py). One stands alone;
None: none."""

LABEL_BYTES = 4_096
"""To list a task by a label takes Redis about as long as to take so many bytes of a record."""


def listing_bytes(listed: Listing) -> int:
    """Return how many bytes of a record take as long as to list a task under these names."""
    return 0 if listed is None or isinstance(listed, str) else LABEL_BYTES * len(listed)


def labels_bytes(options: Options) -> int:
    """Return how many bytes of a record take as long as to list a task under its labels, or no longer to."""
    return 0 if options is NONE or options.labels is UNSET else LABEL_BYTES * len(options.labels)


def listing_of(type_name: str | None, options: Options) -> Listing:
    """Return under which names a task with this type (None: the default) and these options is listed."""
    if options is NONE or options.labels is UNSET:
        return type_name
    labels = tuple(index_of(f"{name}={value}") for name, value in options.labels.items())
    return labels if type_name is None else (type_name, *labels)
