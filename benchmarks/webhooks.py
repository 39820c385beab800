"""The webhooks of a load: one for all tasks, or one for each. Also run by the peers' own interpreters: nothing but the
standard library."""

from collections.abc import Sequence
from dataclasses import dataclass

HOSTS = 50
"""Ports that the receiver listens on: to a client, each is a host of its own."""

ONE, DISTINCT = "one", "distinct"
URLS = (ONE, DISTINCT)
"""Whether all tasks have one URL, or each its own, spread over all hosts."""


@dataclass(frozen=True)
class Webhooks:
    """The webhook of each task. `bases` are URLs of one receiver, one for each host.

    With one base, it is the webhook of all tasks. With several, each task has a path and a query of its own, as long as
    those with an id and a signature are. bullmq_enqueuer.mjs has the same rule.
    """

    bases: Sequence[str]

    def of(self, number: int) -> str:
        """Return the webhook of task `number`."""
        if len(self.bases) == 1:
            return self.bases[0]
        return f"{self.bases[number % len(self.bases)]}orders/{number}?id={number}&signature={number:064x}"

    def first(self, count: int) -> list[str]:
        """Return the webhooks of the first `count` tasks."""
        return [self.of(number) for number in range(count)]
