"""Hands out the tests from both ends of the list, so that waits and work are under way side by side.

The list begins with long tests and with whole services, which wait most of the time; it ends with units, which do not
wait. So two processes take what is last, and keep the cores busy. The others take what is first, so that nothing long is
left to the end. In the middle are the scripts, short ones, where all meet.
"""

from xdist.scheduler import LoadScheduling
from xdist.workermanage import WorkerController


class BothEnds(LoadScheduling):  # type: ignore[misc]
    """Gives two processes what is last in the list: to one of them as soon as the first round is out, in which are the tests
    that must not be disturbed."""

    def _send_tests(self, node: WorkerController, num: int) -> None:
        is_first_round = len(self.collection) - len(self.pending) < 2 * len(self.nodes)
        if self.nodes.index(node) in ((1,) if is_first_round else (1, 2)):
            self.pending[:] = self.pending[-num:] + self.pending[:-num]
        super()._send_tests(node, num)
