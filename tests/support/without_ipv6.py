"""Run a module as on a machine without IPv6: `python -m tests.support.without_ipv6 <module> <arguments>`.

The kernel refuses every IPv6 socket of the process and of what it starts (seccomp), with the error of a kernel that was
started with `ipv6.disable=1`.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

SOCKET = {"x86_64": 41, "aarch64": 198}
"""The number of the system call."""

NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2
LOAD_WORD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER_AT, FAMILY_AT = 0, 16
ALLOW, FAIL = 0x7FFF0000, 0x00050000
AF_INET6 = 10

PROGRAM = (
    (LOAD_WORD, 0, 0, NUMBER_AT),
    (IF_EQUAL, 0, 3, SOCKET.get(platform.machine(), -1)),
    (LOAD_WORD, 0, 0, FAMILY_AT),
    (IF_EQUAL, 0, 1, AF_INET6),
    (RETURN, 0, 0, FAIL | errno.EAFNOSUPPORT),
    (RETURN, 0, 0, ALLOW),
)


def main() -> None:
    """Give up IPv6, and become the module."""
    code = b"".join(struct.pack("=HBBI", *line) for line in PROGRAM)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("@HP", len(PROGRAM), ctypes.addressof(buffer))
    library = ctypes.CDLL(None, use_errno=True)
    for arguments in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SET_SECCOMP, FILTER, program, 0, 0)):
        if library.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")
    os.execv(sys.executable, [sys.executable, "-W", "error", "-m", *sys.argv[1:]])


if __name__ == "__main__":
    main()
