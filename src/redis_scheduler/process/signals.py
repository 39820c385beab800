"""A table: the signals that end a process, and their names. Process.on_signal handles them, and in commands beside the
service interruption.py; the Supervisor passes the stop on to its children."""

import signal
import sys
from collections.abc import Iterator

ENDING: tuple[int, ...] = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU, signal.SIGVTALRM, signal.SIGPROF),
    # Linux has more of them; systemd stops a container with SIGRTMIN+3.
    *(getattr(signal, name) for name in ("SIGIO", "SIGPWR", "SIGSTKFLT") if sys.platform == "linux"),
    *(range(signal.SIGRTMIN, signal.SIGRTMAX + 1) if sys.platform == "linux" else ()),
)
"""Signals whose default is to end the process at once: deliveries would break off, and the private Redis be left."""


def signal_name(number: int) -> str:
    """Return a signal's name. Real-time signals between the first and the last are named by their distance to the
    first."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def heeded() -> Iterator[int]:
    """Yield those of them that this process heeds. A signal that is ignored at the start stays ignored (nohup)."""
    for number in ENDING:
        # But for SIGINT: a script ignores it for what it starts in the background, yet who sends it means the process.
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            yield number
