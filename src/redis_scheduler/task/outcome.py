"""What an attempt came to. delivery makes it, retry.py decides by it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Phases(NamedTuple):
    """The ms that parts of an attempt took: the name's look-up, opening the connection (with TLS), and from then to the
    first byte of the answer. The part in which an attempt ended counts up to that end. 0: it took less, or did not come
    to pass, as on a kept connection, or it is not known, as where the answer to a success did not end."""

    lookup_ms: int = 0
    connect_ms: int = 0
    first_byte_ms: int = 0


NO_PHASES = Phases()


@dataclass(slots=True)
class Outcome:
    """How an attempt went: no error is a success. `status` is None when there was no answer.

    `answer` and `headers`: of an answer that is no success, the beginning of its body, and its headers by their names
    in lower case; of a success AGAIN_HEADER alone (answer.py), and its body only for a callback (callback.py).
    `phases`: of a failure. `fault`: of one that its status does not tell: lookup, connect, tls, timeout, answer (what
    came is none), request (none can be made), egress (no connection may be opened), proxy, acknowledgement. `is_final`:
    another attempt would fare the same. `detail`: what only the log and an admin may know of a failure. `is_local`:
    this machine is at fault, without free sockets or memory; no request was made, so it counts as no attempt.
    `is_impatient`: a time-out of the task's own ended it, which is shorter than that of the service. `began_s`: when
    the attempt began, by this machine's monotonic clock.
    """

    error: str | None
    status: int | None
    elapsed_ms: int
    is_local: bool = False
    answer: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    phases: Phases = NO_PHASES
    fault: str = ""
    is_final: bool = False
    detail: str = ""
    is_impatient: bool = False
    began_s: float = 0.0

    @property
    def kind(self) -> str:
        """What kind of failure it is: its fault, or the class of its status, such as `5xx`."""
        return self.fault or f"{(self.status or 0) // 100}xx"

    @property
    def is_well(self) -> bool | None:
        """Whether the receiver is well, by this attempt. None: it tells nothing of that, since no request was sent, the
        receiver refused this one, or the task did not wait for it long enough."""
        if self.error is None:
            return True
        if self.is_local or self.is_final or self.is_impatient or self.fault in ("request", "egress"):
            return None
        return False if self.status is None or self.status >= 500 or self.status in (408, 429) else None
