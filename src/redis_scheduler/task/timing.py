"""The limits and intervals of a task's life: leases, sweeps, batches. Units stand in the names.

Scripts get them as arguments, so that one place has each number.
"""

WINDOW_MS = 60_000
"""W, the min-idle of XAUTOCLAIM. A retry parks with the idle time W - delay."""

LEASE_MS = 15_000
"""A delivery in flight is kept at the idle time W - LEASE_MS: how long after its worker's last sign of life it is taken."""

WAITING_MOST = 1_000
"""Entries that may wait for a retry in the pending list, which every sweep walks; more are deferred to DUE."""

SWEEP_WAITING_INTERVAL_MS = 100
SWEEP_IDLE_INTERVAL_MS = 1_000
SWEEP_STEP_INTERVAL_MS = 30
"""Sweeps while anything waits; else; and between steps of 1,000 entries, 1.4 ms each: 5 % of Redis at most."""

SWEEP_HOLD_MS = 3_000
"""After a gap of this length in the sweeps nobody sweeps for as long: whoever lives settles and renews first."""

LOST_WORKERS_MOST = 5
"""Claims in a row that may end without an outcome: a task that has killed so many workers is poison, and buried."""

SWEEP_VOID_AFTER_MS = 500
"""A reclaim that reaches Redis later than this was stuck on the way, while leases may have run out: it is void."""

CLOCK_STEP_LEAST_MS = 100
"""A step back of Redis' clock that is looked after: as long as between two sweeps, by whose times it is told."""

BATCH_LIMIT = 200
"""Tasks a script call takes: about a millisecond of Redis."""

LOAD_BYTES = 1_048_576
"""Of records in one load: a millisecond or two of Redis."""

PROMOTED_BYTES = 65_536
"""Of records claimed with one promotion, and one record: more is left to the claims that wait for it."""

WRITER_EXPIRY_S = 3_600
"""How long a writer's last batch number is kept after it; resends come within seconds."""


TEN_YEARS_S = 10 * 365 * 86_400
"""The longest delay of a task, and the longest that a setting may say."""
