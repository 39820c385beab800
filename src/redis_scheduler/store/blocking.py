"""Calls that wait in Redis, each on a connection of its own that other calls cannot delay: the queue's reader, the
bell."""

from collections.abc import Callable

import redis.asyncio
from redis.exceptions import RedisError, ResponseError

from redis_scheduler.store.answer_shape import interpreted
from redis_scheduler.store.claiming import entries_of
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP
from redis_scheduler.store.refusal import is_no_group, translated
from redis_scheduler.task.claim import Entry
from redis_scheduler.task.timing import DEFAULT, Timing


class QueueReader:
    """The blocking reader of the queue, on a connection of its own."""

    def __init__(self, client: RedisClient, consumer: str, timing: Timing = DEFAULT) -> None:
        self._client = client
        self._timing = timing
        self._consumer = consumer
        self._redis: redis.asyncio.Redis | None = None
        self._connection_id: int | None = None

    async def claim(self, limit: int, may_wait: bool = True) -> list[Entry]:
        """Return at most `limit` entries that nobody has claimed; if it `may_wait`, wait for one, `block_ms` at most.

        Raises StoreUnavailable when the connection is lost: then entries may be pending for this consumer that no
        answer told of (Claims.pending lists them).
        """
        await self._client.ensure_checked()
        try:
            if self._redis is None:
                self._redis = self._client.connect(
                    self._timing.block_ms / 1000 + self._client.timeout_s, single_connection=True
                )
                self._connection_id = await self._own_id(self._redis)
            answer = await self._redis.execute_command(
                *("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", limit),
                *(("BLOCK", self._timing.block_ms) if may_wait else ()),
                *("STREAMS", self._client.keys.queue, ">"),
            )
            return interpreted("XREADGROUP", entries_of, answer)
        except (RedisError, OSError) as error:
            if is_no_group(error):
                await self._make_group()
                return []
            await self.aclose()
            raise self._client.lost(error) from error

    async def _make_group(self) -> None:
        try:
            await self._client.resending(self._client.create_group)
        except BaseException:
            # A server that becomes a replica ends the connections of blocked clients.
            await self.aclose()
            raise

    @staticmethod
    async def _own_id(connection: redis.asyncio.Redis) -> int | None:
        """Return the number by which CLIENT UNBLOCK knows a connection, None if Redis does not tell."""
        try:
            answer = await connection.execute_command("CLIENT", "ID")
        except ResponseError:
            return None
        return answer if isinstance(answer, int) else None

    async def unblock(self) -> None:
        """Make a blocked claim answer at once with what it has. Its connection stays."""
        if self._connection_id is not None:
            # If Redis refuses it the claim ends by itself within `block_ms`.
            await self._client.optional("CLIENT", "UNBLOCK", self._connection_id)

    async def aclose(self) -> None:
        """Close the connection; the next claim opens a new one."""
        client, self._redis, self._connection_id = self._redis, None, None
        if client is not None:
            await client.aclose()


class Bell:
    """Hears when a task has become the head of `due`, on a connection of its own."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def listen(self, on_ring: Callable[[], None]) -> None:
        """Call `on_ring` at every ring, and once when listening begins. Raises StoreUnavailable when it ends."""
        # A subscriber waits without a time-out; TCP's keep-alive finds a dead peer.
        client = self._client.connect(self._client.timeout_s)
        try:
            async with client.pubsub() as subscription:
                await subscription.subscribe(self._client.keys.bell)
                while True:
                    on_ring()
                    # Not `get_message`: it fails on a message that no Redis sends.
                    await subscription.parse_response()
        except (RedisError, OSError) as error:
            raise translated(error) from error
        finally:
            await client.aclose()
