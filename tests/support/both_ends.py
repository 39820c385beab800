"""Hands out the tests from both ends of the list, so that waits and work are under way side by side.

The list begins with long tests and with whole services, which wait most of the time; it ends with units, which do not
wait. So two of seven processes take what is last, and keep the cores busy. The others take what is first, so that
nothing long is left to the end. On two cores they meet in the middle, among the scripts, which are short.
"""

from xdist.scheduler import LoadScheduling
from xdist.workermanage import WorkerController


class BothEnds(LoadScheduling):  # type: ignore[misc]
    """Gives the second process what is last in the list; where there are seven, the third too, once it has its first
    tests: these come from the front, where the tests are that nothing may disturb."""

    def _send_tests(self, node: WorkerController, num: int) -> None:
        number = self.nodes.index(node)
        takes_last = 1 <= number <= max(1, len(self.nodes) * 2 // 7)
        if takes_last and (number == 1 or self.node2pending[node]):
            self.pending[:] = self.pending[-num:] + self.pending[:-num]
        super()._send_tests(node, num)
