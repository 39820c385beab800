"""What Redis is asked meanwhile, command by command: a count of its own would count what other parts ask beside it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import redis.asyncio

from redis_scheduler.store.script import Script
from tests.support.routed import servers_of

END = "the end"


@asynccontextmanager
async def asked(raw: redis.asyncio.Redis) -> AsyncIterator[list[list[str]]]:
    """Note the commands within the block, those of scripts, too: after it each stands in the list, as its words."""
    commands: list[list[str]] = []
    servers = servers_of(raw)
    async with AsyncExitStack() as stack:
        monitors = [await stack.enter_async_context(server.monitor()) for server in servers]
        yield commands
        for server, monitor in zip(servers, monitors, strict=True):
            await server.echo(END)
            while (text := (await monitor.next_command())["command"]) != f"ECHO {END}":
                commands.append(text.split(" "))


def calls_of(script: Script, commands: list[list[str]]) -> int:
    """How often a script was called."""
    digests = {script.sha, script.in_cluster.sha}
    return sum(command[0] == "EVALSHA" and command[1] in digests for command in commands)
