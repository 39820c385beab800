"""The signals that end a process, and their names."""

import signal
import sys

ENDING: tuple[int, ...] = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU, signal.SIGVTALRM, signal.SIGPROF),
    # Linux has more that end a process; systemd, as one, stops a container with SIGRTMIN+3.
    *(getattr(signal, name) for name in ("SIGIO", "SIGPWR", "SIGSTKFLT") if sys.platform == "linux"),
    *(range(signal.SIGRTMIN, signal.SIGRTMAX + 1) if sys.platform == "linux" else ()),
)
"""The signals that would end a process at once, its deliveries under way, and leave its Redis behind."""


def signal_name(number: int) -> str:
    """Return a signal's name; of the real-time ones only the first and the last have one of their own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
