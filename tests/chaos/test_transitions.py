"""Case 18: every transition in any order, by several workers and writers, with stale claims and resends, against a
model.

After each step every task stands where the model has it, with its record, attempts, claims, entry and due time; the
counters are the model's, the ledger balances, and the audit finds nothing. In the end whatever is left is delivered.
The full numbers take other examples each time; CHAOS_SEED repeats a run.
"""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import uvloop
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from tests.chaos.figures import FULL, Figures, scaled
from tests.support.steps import Connections, Step
from tests.support.transitions import Example

SHRINKING_S = 20.0
"""How long hypothesis may look for a shorter example of a failure."""

EXAMPLES = scaled(100, 50)
BATCHES_LEAST, BATCHES_MOST = scaled(2, 1), scaled(4, 1)
"""Batches of examples: as many as it takes until every kind of transition was taken."""

SEED_SMALL = 3
MISSED_MOST = scaled(0, 2)
"""Kinds of transition that the few examples of a scaled-down run may miss."""

STEPS = st.lists(
    st.builds(
        Step,
        choice=st.integers(0, 999),
        who=st.integers(0, 5),
        which=st.integers(0, 7),
        count=st.integers(1, 3),
        flag=st.booleans(),
    ),
    min_size=40,
    max_size=60,
)

TRANSITIONS = """
schedule due, schedule queued, schedule in turn, schedule_once in turn, promote, promote into a line, promote from a line, promote and claim, come_due due, come_due deferred, claim, claim nothing, claim_and_read, claim_and_read nothing, load, load dropped,
recover unloaded, recover loaded, settle, settle late, settle fenced, settle and follow, settle unkept, retry, retry full, retry fenced,
defer, defer uncounted, defer fenced, bury, bury uncounted, bury fenced, bury and follow,
expire, expire uncounted, expire fenced, expire and follow, expire unkept, release, release fenced, renew, renew lost, run_out waiting,
run_out in delivery, reclaim retry, reclaim lost, reclaim own, reclaim passed over, reclaim nothing, retire, purge,
update due, update queued, update in delivery, update waiting, update deferred, update dead, update missing, update changed,
update_delay due, update_delay queued, update_delay in delivery, update_delay waiting, update_delay deferred,
update_delay dead, update_delay missing, update_delay changed, replay dead, replay changed, replay missing, replay due,
restore due, restore paused, restore dead, restore there, resend restore,
cancel due, cancel queued, cancel in delivery, cancel waiting, cancel deferred, cancel dead, cancel missing,
put due, put queued, put in delivery, put waiting, put deferred, put paused, put dead, put missing, put changed, resend put,
discard, discard nothing, trim,
pause due, pause queued, pause in delivery, pause waiting, pause deferred, pause paused, pause dead, pause missing,
resume paused, expect, expect fenced, acknowledge awaiting, acknowledge in delivery, acknowledge other, reclaim awaited,
update awaiting, cancel awaiting, resend acknowledge, again expect, run due, run queued, run in delivery, run waiting, run deferred, run paused, run dead, run missing, run later, run series, run told,
update paused, update_delay paused, cancel paused, resend pause, resend resume, resend run,
schedule once, schedule once again, shift due, shift paused, shift nothing,
resend schedule, resend update, resend cancel, resend replay, resend purge, resend discard,
fire, fire and end, fire skipped, fire fenced, again fire,
again settle, again retry, again defer, again bury, again expire, again release,
deliver and again, again fenced, again again,
hold, hold fenced, admit, again hold, pause held, run held, update held, update_delay held, update_limit held, cancel held, put held,
pause in turn, run in turn, update in turn, update_delay in turn, update_limit in turn, cancel in turn, put in turn,
pause_all, pause_all due, pause_all over, pause_all awaited, lose,
set_back leased, set_back deferred, set_back awaiting
"""
"""What a run must have come to; else it proves nothing of it."""


class ShrunkEnough(BaseException):
    """Ends the search for a shorter example; the failure of the shortest so far is then raised."""


class Run:
    """The examples of one run, and what came of them."""

    def __init__(self, shared: Connections) -> None:
        self.shared = shared
        self.wanted = {" ".join(name.split()) for name in TRANSITIONS.split(",")}
        self.missing = sorted(self.wanted)
        """Kinds that were not taken before this example; from a failure on it stays, so that an example is the same
        when it is run again."""
        self.examples = 0
        self.failure: list[tuple[str, Step]] = []
        """The shortest example that failed."""
        self.error: Exception | None = None
        self._failed_at = 0.0

    async def example(self, steps: list[Step]) -> None:
        """Run one example on an empty Redis."""
        if self.error is not None and time.monotonic() - self._failed_at > SHRINKING_S:
            raise ShrunkEnough
        await self.shared.empty()
        example = Example(self.shared, self.missing)
        try:
            for step in filter(lambda step: step.choice, steps):
                await example.take(step)
            await example.finish()
        except Exception as error:
            self._failed_at = self._failed_at or time.monotonic()
            self.failure, self.error = example.done, error
            raise
        finally:
            self.shared.taken += example.taken
        self.examples += 1
        if self.error is None:
            self.missing = sorted(self.wanted - (+self.shared.taken).keys())


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """An event loop that outlives the examples: hypothesis calls them one after another."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as running:
        yield running


@pytest.fixture
def run(runner: asyncio.Runner, redis_url: str, tmp_path: Path) -> Iterator[Run]:
    """A run on a Redis that no fault is injected into, where few may wait for a retry, or lose their workers;
    hypothesis leaves nothing here."""
    set_hypothesis_home_dir(tmp_path / "hypothesis")

    async def connect() -> Connections:
        return Connections(redis_url)

    shared = runner.run(connect())
    yield Run(shared)
    runner.run(shared.aclose())
    set_hypothesis_home_dir(None)


@pytest.mark.case("18", "transitions in random order against a model")
@pytest.mark.long
def test_no_order_of_transitions_loses_a_task_an_update_or_a_cancel(
    run: Run, runner: asyncio.Runner, figures: Figures
) -> None:
    first_seed = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(2**32) if FULL else SEED_SMALL))
    wanted, taken = run.wanted, run.shared.taken
    try:
        for seed in range(first_seed, first_seed + BATCHES_MOST):
            run_examples(run, runner, seed)
            if seed - first_seed + 1 >= BATCHES_LEAST and not run.missing:
                break
    finally:
        figures.note(seed=f"{first_seed}", examples=run.examples, steps=run.shared.steps)
        print(", ".join(f"{name} {count}" for name, count in sorted(taken.items())))
        for verb, step in run.failure:
            print(f"{verb}: {step}")
    missed = {name for name in wanted if not taken[name]}
    rarest = min(wanted - missed, key=lambda name: taken[name])
    figures.note(kinds=len(wanted), missed=len(missed), taken=sum(taken[name] for name in wanted))
    figures.note(rarest=f"{rarest} ({taken[rarest]})")
    assert len(missed) <= MISSED_MOST, f"never taken: {missed}"


def run_examples(run: Run, runner: asyncio.Runner, seed: int) -> None:
    """Run a batch of examples; raise the failure of the shortest that fails."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @hypothesis.given(STEPS)
    def examples(steps: list[Step]) -> None:
        runner.run(run.example(steps))

    try:
        examples()
    except ShrunkEnough:
        assert run.error is not None
        raise run.error from None
