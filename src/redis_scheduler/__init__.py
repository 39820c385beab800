"""Redis Scheduler: calls a webhook after a delay, at least once, at its time, through crashes and restarts."""

__version__ = "0.1.0"
