"""Every error the service raises on purpose: one base, one class per meaning.

The docstring of a class is its message when it is raised without one.
"""


class SchedulerError(Exception):
    """Redis Scheduler could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class SettingsError(SchedulerError):
    """The settings are not valid. Holds one line a problem; the start is refused."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StartError(SchedulerError):
    """The service cannot start here (port taken, data folder in use, no server to embed)."""


class FolderInUse(StartError):
    """DATA_DIR is in use by another redis-scheduler."""


class StoreUnavailable(SchedulerError):
    """Redis cannot be reached, or does not serve now; the outcome of a write under way is unknown."""


class StoreRefused(StoreUnavailable):
    """Redis answered a call by refusing it: it lacks the command, may not write, or the user may not call it."""


class StoreFull(SchedulerError):
    """Redis is out of memory and refused the write; nothing was written."""


class TaskNotFound(SchedulerError):
    """No task has this key: it was delivered, cancelled or purged, or it never existed."""


class InvalidRequest(SchedulerError):
    """The request is not valid; nothing was written."""
