"""Runs `redis-scheduler` with a wall clock that is wrong by CLOCK_SHIFT_S seconds:
`python -m tests.support.shifted_clock`."""

import os
import sys
import time

from redis_scheduler.cli import main

SHIFT_S = float(os.environ["CLOCK_SHIFT_S"])

if __name__ == "__main__":
    right_time, right_time_ns = time.time, time.time_ns
    time.time = lambda: right_time() + SHIFT_S
    time.time_ns = lambda: right_time_ns() + int(SHIFT_S * 1e9)
    sys.exit(main())
