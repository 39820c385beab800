"""A table: the signals that end a process, and their names. Process.on_signal handles them; the Supervisor passes
the stop on to its children."""

import signal
import sys

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
