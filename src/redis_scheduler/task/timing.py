"""The limits and intervals of tasks: leases, sweeps, batches, loops. Units stand in the names.

Loops get one `Timing`, and scripts get its numbers as arguments: each number stands only here.
"""

from dataclasses import dataclass, field, replace


@dataclass(slots=True)
class Served:
    """How many shards a process looks at, to deliver what is due there, and how many it joins. More may come while it
    runs."""

    shards: int = 1
    joined: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long, how often and how many: the same for all processes on one Redis.

    Raises ValueError for values that cannot work together.
    """

    served: Served = field(default_factory=Served)
    """It looks less often at each of many shards."""

    # Leases and retries

    window_ms: int = 60_000
    """W, the min-idle of XAUTOCLAIM. A retry parks with the idle time W - delay."""

    lease_ms: int = 15_000
    """So long after its worker's last renewal a delivery in flight is taken by another worker."""

    renew_interval_s: float = 5.0
    """A third of the lease: two renewals may fail before it runs out."""

    waiting_most: int = 1_000
    """Entries that may wait for a retry in the pending list, which every sweep walks; more are deferred to `due`."""

    lost_workers_most: int = 5
    """So many claims in a row may end without an outcome. Then the task is poison, and buried."""

    newer_delay_ms: int = 30_000
    """A task of a newer version is deferred for so long: then a worker claims it again, perhaps a newer one."""

    # Sweeps

    sweep_waiting_interval_ms: int = 100
    """Between two sweeps while any task waits for a retry."""

    sweep_idle_interval_ms: int = 1_000
    """Between two sweeps while none waits, but any is in delivery or awaits; of one or two shards always then."""

    sweep_step_interval_ms: int = 30
    """Between two steps of a sweep, of 1,000 entries and 1.4 ms each: 5 % of Redis at most."""

    sweep_hold_ms: int = 3_000
    """After a gap of this length in the sweeps nobody sweeps for as long: workers that live settle and renew first."""

    sweep_void_after_ms: int = 500
    """A look that reaches Redis later than this does nothing: leases may have run out while it was on its way."""

    clock_set_least_ms: int = 100
    """A clock of Redis that was set back by less is not noticed: sweeps tell it by their times, and are so far
    apart."""

    # Batches

    batch_limit: int = 200
    """Tasks of one script call: about a millisecond of Redis."""

    load_bytes: int = 1_048_576
    """Bytes of records in one load: a millisecond or two of Redis."""

    fired_most: int = 50
    """Series of one call: working out their next times takes half a millisecond, 3 ms where no two have one rule, and a
    millisecond each behind a gap of months."""

    working_out_s: float = 0.002
    """Times of series are worked out for so long at once, and for one series more; then others go on."""

    promoted_most: int = 50
    """Claims of one promotion: with their tasks half a millisecond of Redis, besides the move."""

    promoted_bytes: int = 65_536
    """Bytes of records that one promotion brings, and one record more: the rest is left to claims that wait for it."""

    queued_most: int = 200
    """Where tokens with rights are in use, no more entries that nobody has claimed come into the queue: the workers
    deliver so many in some milliseconds. What is due beside them waits in lines of the tokens."""

    sorted_most: int = 600
    """Due tasks that one promotion puts into lines of tokens, 3.6 µs of Redis each: until a flood stands in its line,
    what is due behind it waits."""

    in_turn_most: int = 20
    """Tasks of a token that come into the queue in one turn."""

    in_turn_interval_ms: int = 5
    """Between two promotions while tasks stand in lines of tokens, over several shards longer (`in_turn_us`), and of
    more than two workers: each fills the queue up."""

    admission_interval_ms: int = 50
    """Between two rounds through the lines of what is held, where any may have room soon."""

    admitted_lines_most: int = 50
    """Lines that one step of a round looks at: half a millisecond of Redis."""

    allowance_s: float = 0.1
    """A worker is given so much of a rate beside what it asks for, by its pace of late: so no delivery asks for
    itself."""

    rate_held_after_s: float = 0.5
    """Without an answer for so long, a worker goes on at the pace that it had under a rate."""

    rate_held_s: float = 60.0
    """For so long at most."""

    no_line_delay_ms: int = 5_000
    """A task that is to be held comes again so much later if its limit can have no line."""

    breaker_well_ms: int = 10_000
    """A breaker opens only if no attempt was well for so long."""

    breaker_gap_ms: int = 1_000
    """From the opening to the first probe; the gap doubles with each."""

    breaker_gap_most_ms: int = 60_000
    """The longest gap between two probes."""

    breaker_step_ms: int = 1_000
    """The least time of each of the ten steps in which a host comes back."""

    judge_interval_s: float = 0.1
    """Between two reports of what attempts to hosts came to, where any failed."""

    gather_s: float = 0.002
    """A finished delivery waits so long for others to be settled with it; its receiver has answered already."""

    writer_expiry_s: int = 3_600
    """A writer's last batch number is kept so long; resends come within seconds."""

    # Loops

    block_ms: int = 2_000
    """A claim may block so long: Redis 6.2 leaves a blocked reader hanging after FLUSHALL."""

    block_longest_ms: int = 2_000
    """The same of a server from 7.0 on, which may be told to end it; over several shards longer (`reader_block_ms`)."""

    turn_s: float = 0.1
    """Of several shards with a backlog one claims at a time. If it has no answer for so long, the next one claims. A
    step of the sweep keeps the slots that it may need from the other shards for so long, too."""

    courtesy_s: float = 0.005
    """While doubtful hosts crowd this worker's slots, it leaves new entries to others for so long."""

    period_s: float = 0.25
    """The least time between two judgements of the hosts: a period."""

    local_fault_pause_s: float = 1.0
    """A delivery that this machine could not begin keeps its slot for so long, and is then given back."""

    recovery_interval_s: float = 5.0
    """Between two recoveries that nothing asked for, while anything is pending for the worker: a call that was given up
    may still be applied later."""

    recovery_pause_s: float = 0.1
    """The least time between two recoveries: so they cost little while every few answers are lost."""

    bell_refused_s: float = 60.0
    """After a refusal the timer asks again so much later whether it may hear the bell: looks tell it what is due."""

    rejoin_interval_s: float = 5.0
    """Between two looks of a process at the deployment's id in Redis: if somebody has deleted it, it is put back. Over
    several shards: `rejoin_s`."""

    retire_interval_s: float = 600.0
    """Between two looks of a worker for consumers that are gone."""

    retire_idle_ms: int = 3_600_000
    """A consumer without pending entries that was idle for so long is gone."""

    trim_interval_s: float = 10.0
    """Between two looks of a worker for what is not to be kept any longer, over several shards as many times as long
    (`trim_s`). It looks at once after a task has died."""

    trim_pause_s: float = 0.01
    """Between two trims that drop something: at most a tenth of Redis."""

    history_interval_s: float = 5.0
    """Between two writes of what happened, where anything did."""

    minute_ttl_ms: int = 8 * 3_600_000
    """What happened in a minute is kept for so long after its last write."""

    hour_ttl_ms: int = 30 * 86_400_000
    """What happened in an hour is kept for so long after its last write."""

    history_minutes_most: int = 480
    """A process keeps so many minutes at most, one at least, that Redis did not take: as many as that would keep."""

    # The stop

    claims_coming_end_s: float = 1.0
    """A worker that stops waits so long for the last answer that may bring claims."""

    final_writes_s: float = 3.0
    """A worker that stops tries for so long to write its last outcomes; without them another delivers again."""

    def __post_init__(self) -> None:
        if self.lease_ms >= self.window_ms:
            raise ValueError("A lease must be shorter than the window")
        if 2 * self.renew_interval_s * 1000 >= self.lease_ms:
            raise ValueError("A lease must be longer than two renewals")
        if self.batch_limit < 1:
            raise ValueError("A batch has one task at least")

    def over(self, shards: int) -> "Timing":
        """Return the timing of a process that serves all shards, of which there are so many. The process changes
        `served` when more come, and where it serves only some."""
        return replace(self, served=Served(shards, shards))

    @property
    def _times(self) -> float:
        """At a shard of several a process looks so many times less often."""
        return max(1.0, self.served.shards / 2)

    @property
    def look_interval_ms(self) -> int:
        """Between two looks at a shard in which nothing is pending or awaits; a lost bell costs no more. What is due,
        bells, and retries that this process parks do not wait for it."""
        return round(self.sweep_idle_interval_ms * self._times)

    @property
    def in_turn_us(self) -> int:
        """Between two promotions in one shard while tasks stand in lines of tokens there."""
        return round(1_000 * self.in_turn_interval_ms * self._times)

    @property
    def ring_below_ms(self) -> int:
        """For a task that comes again sooner than this the bell calls for a look: other workers might look only later.
        0, so that it calls for none, where each looks every second."""
        return self.look_interval_ms if self._times > 1 else 0

    @property
    def sweep_gap_ms(self) -> int:
        """Sweeps that are further apart show an outage, or that all workers were down."""
        return self.sweep_hold_ms + self.look_interval_ms - self.sweep_idle_interval_ms

    @property
    def reader_block_ms(self) -> int:
        """For so long a claim may block, of a server from 7.0 on: those of all shards ask as often as that of one."""
        return self.block_longest_ms * self.served.shards

    def rejoin_s(self, is_first: bool) -> float:
        """Return the seconds between two looks of a process at the deployment's id in the first shard, which alone says
        how many there are and what processes say; or in another. (That a worker lives its looks say.)"""
        if self.served.joined == 1:
            return self.rejoin_interval_s
        # In each minute once at least: it notes for how long the oldest task of the minute has been due.
        return self.rejoin_interval_s * (2 if is_first else 10)

    @property
    def trim_s(self) -> float:
        """Between two looks of a worker at a shard for what is not to be kept any longer."""
        return self.trim_interval_s * self.served.shards

    @property
    def lease_idle_ms(self) -> int:
        """The idle time that an entry in flight is set to: when it has grown to the window the lease is over."""
        return self.window_ms - self.lease_ms


DEFAULT = Timing()
"""The timing of every deployment. Tests give their own."""


TIMEOUT_LONGEST_S = 86_400
"""The longest time-out of an attempt that a setting may say."""

TEN_YEARS_S = 10 * 365 * 86_400
"""The longest delay of a task, and the longest that a setting may say."""

LAST_MS = 253_402_300_799_999
"""The end of the year 9999: the last time that RFC 3339 can write."""
