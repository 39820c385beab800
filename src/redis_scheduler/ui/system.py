"""The system: the ledger, workers, Redis' memory, what was set, what was warned of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis_scheduler.api.app import Inside
from redis_scheduler.store.glance import Glance
from redis_scheduler.store.ledger import total
from redis_scheduler.store.token import Right
from redis_scheduler.store.workers import holders
from redis_scheduler.task.timing import DEFAULT
from redis_scheduler.ui.answers import PageRefused
from redis_scheduler.ui.asking import Asker, content_of
from redis_scheduler.ui.entering import Visitor
from redis_scheduler.ui.proxies import Network

NOTED = 20
"""The last changes that are shown of those that were noted."""


@dataclass(frozen=True, slots=True)
class About:
    """What the process says of itself. `settings`: variable, value and whether it is the default, without secrets."""

    settings: Sequence[tuple[str, str, bool]] = ()
    warnings: Sequence[str] = ()
    doors: Sequence[str] = ()
    has_echo: bool = True
    delivers: bool = True
    """Whether workers run on this machine."""
    base: str = ""
    """The path under which a proxy shows the service."""
    environment: str = ""
    proxies: Sequence[Network] = ()
    """Those whose word is taken for which host and scheme a browser asked."""


class System:
    """Reads what there is to say of the system."""

    def __init__(self, inside: Inside, asker: Asker, about: About) -> None:
        self._inside = inside
        self._asker = asker
        self._about = about
        self._glance = Glance(inside.clients)

    async def read(self, visitor: Visitor, _query: dict[str, str]) -> dict[str, Any]:
        """Return it. Raises PageRefused for a token that may not see it."""
        if not visitor.rights & Right.ADMIN or (visitor.caller and visitor.caller.types):
            raise PageRefused(403, "This page is for tokens with the right admin, and without types")
        stats = content_of(await self._asker.ask(visitor, "GET", "/stats"))["data"]
        seen = await self._glance.look()
        ledger = total([one.ledger for one in seen])
        held = [await holders(client, DEFAULT.window_ms) for client in self._inside.clients]
        noted = await self._asker.ask(visitor, "GET", "/audit", {"limit": str(NOTED)})
        return {
            "noted": noted.content["data"] if noted.status == 200 else [],
            "stats": stats,
            "missing": ledger.missing,
            "shards": seen,
            "holders": [one for of_shard in held for one in of_shard][:200],
            "about": self._about,
        }
