"""The limits and intervals of a task's life: leases, sweeps, batches, loops. Units stand in the names.

Whoever acts by them is given one `Timing`, and scripts get them as arguments: each number stands here alone.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long, how often and how many: the same for all processes on one Redis.

    Raises ValueError for what cannot work.
    """

    # Leases and retries

    window_ms: int = 60_000
    """W, the min-idle of XAUTOCLAIM. A retry parks with the idle time W - delay."""

    lease_ms: int = 15_000
    """How long after its worker's last sign of life a delivery in flight is taken by another."""

    renew_interval_s: float = 5.0
    """A third of the lease: two renewals may fail before it runs out."""

    waiting_most: int = 1_000
    """Entries that may wait for a retry in the pending list, which every sweep walks; more are deferred to DUE."""

    lost_workers_most: int = 5
    """Claims in a row that may end without an outcome: a task that has killed so many workers is poison, and buried."""

    newer_delay_ms: int = 30_000
    """How long a task waits that a newer version wrote, until a worker claims it again: one that is newer, perhaps."""

    # Sweeps

    sweep_waiting_interval_ms: int = 100
    """Between two sweeps while anything waits for a retry;"""

    sweep_idle_interval_ms: int = 1_000
    """while nothing waits;"""

    sweep_step_interval_ms: int = 30
    """and between steps of 1,000 entries, 1.4 ms each: 5 % of Redis at most."""

    sweep_hold_ms: int = 3_000
    """After a gap of this length in the sweeps nobody sweeps for as long: whoever lives settles and renews first."""

    sweep_void_after_ms: int = 500
    """A reclaim that reaches Redis later than this was stuck on the way, while leases may have run out: it is void."""

    clock_step_least_ms: int = 100
    """A step back of Redis' clock that is looked after: as long as between two sweeps, by whose times it is told."""

    # Batches

    batch_limit: int = 200
    """Tasks a script call takes: about a millisecond of Redis."""

    load_bytes: int = 1_048_576
    """Of records in one load: a millisecond or two of Redis."""

    promoted_most: int = 50
    """Claims of one promotion: with their tasks half a millisecond of Redis, besides the move."""

    promoted_bytes: int = 65_536
    """Of records claimed with one promotion, and one record: more is left to the claims that wait for it."""

    gather_s: float = 0.002
    """How long a finished delivery waits for others to be settled with; its receiver has answered already."""

    writer_expiry_s: int = 3_600
    """How long a writer's last batch number is kept after it; resends come within seconds."""

    # Loops

    block_ms: int = 2_000
    """How long a claim may block: a 6.2 server leaves a blocked reader hanging after FLUSHALL."""

    courtesy_s: float = 0.005
    """How long what comes into the queue is left to others, while slow hosts crowd the slots here."""

    period_s: float = 0.25
    """How often hosts are judged, at most: no slow host has four periods a second."""

    local_fault_pause_s: float = 1.0
    """How long a delivery that this machine could not begin keeps its slot before it is given back."""

    recovery_interval_s: float = 5.0
    """Between two recoveries that nothing asks for: a call that was given up may be applied later."""

    recovery_pause_s: float = 0.1
    """At least, between two recoveries: while every few answers are lost, they cost no more."""

    longest_sleep_s: float = 1.0
    """Between two looks of the timer: what a lost bell costs at most."""

    bell_refused_s: float = 60.0
    """Until a user who may not hear the bell asks again."""

    retire_interval_s: float = 600.0
    """Between two looks of a worker for consumers that are gone:"""

    retire_idle_ms: int = 3_600_000
    """those idle an hour with nothing pending."""

    # The stop

    claims_coming_end_s: float = 1.0
    """How long a stopping worker waits for the last answer that may bring claims."""

    final_writes_s: float = 3.0
    """How long a stopping worker tries to write its last outcomes; without them another delivers again."""

    def __post_init__(self) -> None:
        if self.lease_ms >= self.window_ms:
            raise ValueError("A lease must be shorter than the window")
        if 2 * self.renew_interval_s * 1000 >= self.lease_ms:
            raise ValueError("A lease must be longer than two renewals")
        if self.batch_limit < 1:
            raise ValueError("A batch has one task at least")

    @property
    def lease_idle_ms(self) -> int:
        """The idle time of an entry in flight: its lease is over when that has come to the window."""
        return self.window_ms - self.lease_ms


DEFAULT = Timing()
"""What a deployment has."""


TEN_YEARS_S = 10 * 365 * 86_400
"""The longest delay of a task, and the longest that a setting may say."""
