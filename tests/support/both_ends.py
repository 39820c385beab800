"""Hands out the tests from both ends of the list, so that waits and work are under way side by side.

The suite's list begins with whole services, which wait most of the time, and ends with units and scripts, which do not: in one
order all processes would wait at first, and disturb one another at last. The cases of the fault suite, which measure delays, are run
by no more than half of the processes at once, too, until the others have run out of what is theirs.
"""

from xdist.scheduler import LoadScheduling
from xdist.workermanage import WorkerController


class BothEnds(LoadScheduling):  # type: ignore[misc]
    """Gives every second process what is last in the list."""

    def _send_tests(self, node: WorkerController, num: int) -> None:
        if self.nodes.index(node) % 2:
            self.pending[:] = self.pending[-num:] + self.pending[:-num]
        super()._send_tests(node, num)
