"""A wall clock that is set while a process runs: a library that is loaded before the system's own, made with gcc."""

import mmap
import shutil
import subprocess
from pathlib import Path

import pytest

_LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static const int64_t none = 0;
static volatile const int64_t *ahead_us = &none;

__attribute__((constructor)) static void attach(void) {
  int file = open(getenv("CLOCK_AHEAD_FILE"), O_RDONLY);
  void *mapped = mmap(NULL, sizeof *ahead_us, PROT_READ, MAP_SHARED, file, 0);
  if (mapped != MAP_FAILED) ahead_us = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(clock, time);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    int64_t us = time->tv_sec * INT64_C(1000000) + time->tv_nsec / 1000 + *ahead_us;
    time->tv_sec = us / 1000000;
    time->tv_nsec = us % 1000000 * 1000;
  }
  return result;
}

int gettimeofday(struct timeval *time, void *zone) {
  struct timespec now;
  (void)zone;
  int result = clock_gettime(CLOCK_REALTIME, &now);
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return result;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}
"""


class SettableClock:
    """The wall clock of every process that is started with `environment`; no other clock of it is touched."""

    def __init__(self, folder: Path, ahead_s: float) -> None:
        compiler = shutil.which("gcc")
        if compiler is None:
            pytest.skip("gcc is needed to set the clock of a process")
        source, library, self._file = folder / "clock.c", folder / "clock.so", folder / "ahead"
        source.write_text(_LIBRARY)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self._file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_AHEAD_FILE": str(self._file)}
        self.ahead_s = 0.0
        self.set(ahead_s)

    def set(self, ahead_s: float) -> None:
        """Set the clock so many seconds ahead of the right time, at once."""
        with (
            self._file.open("r+b") as file,
            mmap.mmap(file.fileno(), 8) as mapped,
            memoryview(mapped) as view,
            view.cast("q") as number,
        ):
            # In one store, so that nobody reads half of it.
            number[0] = round(ahead_s * 1_000_000)
        self.ahead_s = ahead_s
