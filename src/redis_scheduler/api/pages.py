"""The memory for pages of the list and for large tasks: how much they hold together, and which gives way.

Below, a large task that is shown counts as a page; one that is changed or deleted holds its room until that is done.

A page is put together in memory task by task as it is read, so that an error on the way is an answer of its own, and
stays there until its client has read it. If there is no room for another, the page that was begun first is cut off,
once its client has had `reader_s` for it. So slow readers take as long as they like while nobody else wants a page, and
keep nobody from one.
"""

import asyncio

from starlette.requests import Request

from redis_scheduler.api.admission import Connection
from redis_scheduler.api.exclusive import Exclusive
from redis_scheduler.api.limits import Limits
from redis_scheduler.errors import Code, RequestRefused
from redis_scheduler.logs import Events
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.views import LOOK_S

logger = Events(__name__)

LOOK = "look_s"
"""The name in a request's ASGI scope of how long it looks for what filters want, if that is not LOOK_S."""

COPIES_OF_CHANGE = 5
"""A change of a task holds its bytes so many times: the record, its parts, the new record, and both in the call."""

COPIES = 4
"""A large task holds its bytes so many times until its answer is put together: its record, the parts of that, the
answer without and with the newline. So does what is read of a page at once."""


def look_s(request: Request) -> float:
    """Return for how many seconds a request looks for what its filters want."""
    found: float = request.scope.get(LOOK, LOOK_S)
    return found


class PageMemory:
    """What one page holds, until `leave`."""

    def __init__(self, room: "PageRoom", size: int, connection: Connection | None) -> None:
        self._room = room
        self._connection = connection
        self._began_at = 0.0
        self.size = size

    def begin(self, size: int) -> None:
        """Note that the page has been read, has so many bytes, and is on its way to its client."""
        self._room.resize(self, size)
        self._began_at = asyncio.get_running_loop().time()
        self._room.sending[self] = None

    def leave(self) -> None:
        """Give the room back; may be called again."""
        self._room.resize(self, 0)
        self._room.sending.pop(self, None)

    def left_s(self) -> float:
        """Return how many seconds its client has left."""
        return self._began_at + self._room.limits.reader_s - asyncio.get_running_loop().time()

    def cut_off(self) -> None:
        """Close the connection, and give the room back."""
        logger.warning("page-cut-off", bytes=self.size, seconds=round(self._room.limits.reader_s - self.left_s(), 1))
        self.leave()
        if self._connection is not None:
            self._connection.abort()


class PageRoom:
    """Gives room to pages, in the order in which it is asked for; those who ask take turns."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._held = 0
        self._entering = Exclusive()
        self._has_changed = asyncio.Event()
        self.sending: dict[PageMemory, None] = {}
        """Pages that are on their way, the oldest first."""

    async def enter(self, connection: Connection | None, reading_bytes: int, whose: str = "") -> PageMemory:
        """Take room for so many bytes, to read a page; `whose`: see Exclusive. Raises a 503 if none comes free in
        time."""
        within_s = self.limits.room_within_s
        try:
            async with asyncio.timeout(within_s), self._entering.held(2 * within_s, whose):
                while self._held and self._held + reading_bytes > self.limits.pages_bytes:
                    self._has_changed.clear()
                    await stop_or_interval(self._has_changed, self._cut_off_oldest())
        except TimeoutError as error:
            raise RequestRefused(Code.BUSY, "Too many pages and large tasks are on their way; try again") from error
        page = PageMemory(self, 0, connection)
        self.resize(page, reading_bytes)
        return page

    def _cut_off_oldest(self) -> float:
        """Cut off the oldest page if its client has had its time; return in how many seconds to look again."""
        oldest = next(iter(self.sending), None)
        if oldest is None:
            return self.limits.room_within_s
        if (left_s := oldest.left_s()) <= 0:
            oldest.cut_off()
        return max(0, left_s)

    def resize(self, page: PageMemory, size: int) -> None:
        """Note that a page holds so much from now on."""
        self._held += size - page.size
        page.size = size
        self._has_changed.set()
