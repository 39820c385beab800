"""Hands out the tests from both ends of the list, so that waits and work are under way side by side.

The list begins with long tests and with whole services, which wait most of the time; it ends with units and scripts,
which do not wait. So one process takes what is last, and keeps a core busy. The others take what is first, so that
nothing long is left to the end.
"""

from xdist.scheduler import LoadScheduling
from xdist.workermanage import WorkerController


class BothEnds(LoadScheduling):  # type: ignore[misc]
    """Gives the second process what is last in the list."""

    def _send_tests(self, node: WorkerController, num: int) -> None:
        if self.nodes.index(node) == 1:
            self.pending[:] = self.pending[-num:] + self.pending[:-num]
        super()._send_tests(node, num)
