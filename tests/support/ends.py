"""A command that leaves something to do for its end, and then ends as its argument says: a code, a text, or "error"."""

import atexit
import sys
import threading
import time


def _say_later() -> None:
    time.sleep(0.1)
    print("from a thread")


if __name__ == "__main__":
    atexit.register(print, "at its end")
    threading.Thread(target=_say_later).start()
    forgotten: list[object] = [open("/dev/null")]  # noqa: SIM115, PTH123  # left open, to be found as garbage
    forgotten.append(forgotten)
    del forgotten
    how = sys.argv[1]
    if how == "error":
        raise ValueError("a fault")
    sys.exit(int(how) if how.isdigit() else how or None)
