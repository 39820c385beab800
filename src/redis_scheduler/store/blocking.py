"""Calls that wait in Redis, each on a connection of its own that other calls cannot delay: the queue's reader, the
bell."""

import re
from collections.abc import Callable

import redis.asyncio
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from redis_scheduler.store.answer_shape import interpreted
from redis_scheduler.store.claiming import entries_of
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP
from redis_scheduler.store.refusal import is_no_group
from redis_scheduler.task.claim import Entry
from redis_scheduler.task.timing import DEFAULT, Timing

LONG_BLOCKS_FROM = 7
"""The version of Redis from which a reader that blocks hears of a FLUSHALL."""


class QueueReader:
    """The blocking reader of the queue, on a connection of its own."""

    def __init__(self, client: RedisClient, consumer: str, timing: Timing = DEFAULT) -> None:
        self._client = client
        self._timing = timing
        self._consumer = consumer
        self._redis: redis.asyncio.Redis | None = None
        self._connection_id: int | None = None
        self._block_ms = timing.block_ms
        self._shards = timing.served.shards

    async def claim(self, limit: int) -> list[Entry]:
        """Wait for entries that nobody has claimed, `block_ms` at most; return `limit` of them at most.

        Raises StoreUnavailable when the connection is lost: then entries may be pending for this consumer that no
        answer told of (Claims.pending lists them).
        """
        await self._client.ensure_checked()
        # With another number of shards it may block for longer than its connection has patience for.
        has_more = self._shards != self._timing.served.shards
        if self._redis is not None and (has_more or self._client.leads_elsewhere(self._redis)):
            await self.aclose()
        try:
            if self._redis is None:
                longest_s = max(self._timing.block_ms, self._timing.reader_block_ms) / 1000
                self._shards = self._timing.served.shards
                self._redis = self._client.connect(longest_s + self._client.timeout_s, single_connection=True)
                self._connection_id = await self._own_id(self._redis)
                self._block_ms = await self._longest_block_ms(self._redis)
            answer = await self._redis.execute_command(
                *("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", limit),
                *("BLOCK", self._block_ms, "STREAMS", self._client.keys.queue, ">"),
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

    async def _longest_block_ms(self, connection: redis.asyncio.Redis) -> int:
        """Return for how long a claim may block on this server."""
        usual_ms, longest_ms = self._timing.block_ms, self._timing.reader_block_ms
        if longest_ms <= usual_ms or self._connection_id is None:
            return usual_ms
        try:
            about = await connection.execute_command("INFO", "server")
        except ResponseError:
            return usual_ms
        # The library makes a dict of it, where it knows the command's answer.
        found = re.search(r"redis_version\W+([0-9]{1,3})\.", str(about))
        return longest_ms if found and int(found[1]) >= LONG_BLOCKS_FROM else usual_ms

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


LOOK = b"look"
"""What the bell says where it calls for a look, and not for a promotion."""


class Bell:
    """Hears when a task has become the head of `due`, or comes again sooner than a look, on a connection of its own."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def listen(self, on_ring: Callable[[], None], on_look: Callable[[], None] = lambda: None) -> None:
        """Call `on_ring` at every ring, and once when listening begins; instead `on_look` where that calls for a look.
        Raises StoreUnavailable when it ends."""
        # A subscriber waits without a time-out; TCP's keep-alive finds a dead peer.
        client = self._client.connect(self._client.timeout_s)
        try:
            async with client.pubsub() as subscription:
                is_sharded = self._client.is_cluster and await self._subscribe_sharded(subscription)
                if not is_sharded:
                    await subscription.subscribe(self._client.keys.bell)
                    await subscription.parse_response()
                on_ring()
                while True:
                    # Not `get_message`: it fails on a message that no Redis sends.
                    answer = await subscription.parse_response()
                    if is_sharded and answer[:1] == [b"sunsubscribe"]:
                        raise RedisConnectionError("the slot of the bell has moved")
                    calls_for_look = isinstance(answer, list) and answer[2:] == [LOOK]
                    (on_look if calls_for_look else on_ring)()
        except (RedisError, OSError) as error:
            raise self._client.meaning(error) from error
        finally:
            await client.aclose()

    async def _subscribe_sharded(self, subscription: PubSub) -> bool:
        """Hear only this shard of a cluster; return whether the server can, as from 7.0 on."""
        await subscription.execute_command("SSUBSCRIBE", self._client.keys.bell)
        try:
            await subscription.parse_response()
        except ResponseError as error:
            if "unknown command" in str(error):
                return False
            raise
        return True
