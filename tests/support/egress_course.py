"""What the egress guard does with webhooks, on a network of the loopback alone: prints what came of each as JSON.

`python -m tests.support.egress_course <folder>`, in such a network (loopback_only.py). A receiver listens at two ports
of every address, so whatever is dialled arrives.
"""

import asyncio
import json
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.egress_table import LITERALS, NAMES
from tests.support.loopback_only import Watch
from tests.support.name_server import naming
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.service import Client, client_of, serving

PORT, OTHER_PORT = 7000, 7001
RETRIES = 2
PUBLIC, LOOPBACK = "8.8.8.8", "127.0.0.1"
ENDED_S = 30

ALLOWED = {"EGRESS_ALLOW": "10.1.0.0/16,169.254.169.254:7000,good.test", "EGRESS_DENY": "10.1.2.0/24,evil.test,:7001"}
BY_RULES = {
    "http://10.1.1.1:7000/": "",
    "http://10.1.2.1:7000/": "EGRESS_DENY",
    "http://10.2.1.1:7000/": "private",
    "http://169.254.169.254:7000/": "",
    "http://169.254.169.253:7000/": "link-local",
    "http://private.good.test:7000/": "",
    "http://linked.good.test:7000/": "link-local",
    "http://evil.test:7000/": "EGRESS_DENY",
    "http://8.8.8.8:7001/": "EGRESS_DENY",
    "http://127.0.0.1:7000/": "loopback",
}

SAID = {name.lower(): addresses for name, (addresses, *_) in NAMES.items()}


class Names:
    """What the name server says. A name below `rebind.test` has a public address when it is first asked for, and the
    loopback from then on."""

    def __init__(self) -> None:
        self.asked = Counter[str]()

    def __call__(self, name: str, kind: str) -> list[str]:
        self.asked[f"{name} {kind}"] += 1
        if name.endswith("rebind.test"):
            addresses = [PUBLIC if self.asked[f"{name} {kind}"] == 1 else LOOPBACK]
        elif name.endswith("good.test") and name != "good.test":
            addresses = ["192.168.0.1" if name.startswith("private") else "169.254.1.1"]
        else:
            addresses = SAID.get(name, [PUBLIC])
        return [address for address in addresses if (":" in address) == (kind == "AAAA")]


@asynccontextmanager
async def receiving() -> AsyncIterator[None]:
    """Answer at each address of the ports: below /redirect with the address that nobody may reach."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        headers = {"Location": f"http://169.254.169.254:{PORT}/"} if request.path == "/redirect" else {}
        return web.Response(status=302 if headers else 200, headers=headers)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    for port in (PORT, OTHER_PORT):
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        await web.SockSite(runner, listener).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def ended(client: Client, webhooks: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Schedule each webhook, and return what came of it."""
    keys: dict[str, str] = {}
    found: dict[str, dict[str, Any]] = {}
    for webhook in webhooks:
        status, content = await client.call("POST", "/schedule", json={"webhook": webhook, "ttl": 0})
        found[webhook] = {"status": status}
        if status == 200:
            keys[webhook] = content["key"]
    await client.drained(ENDED_S)
    for webhook, key in keys.items():
        _, content = await client.call("GET", f"/schedule/{key}")
        info = content["data"]["info"]
        error = (info.get("last_failure") or {}).get("error", "")
        found[webhook] |= {"state": info["state"], "retry": info.get("retry"), "error": error, "key": key}
    return found


async def course(folder: Path, names: Names, redis: RedisProcess) -> dict[str, Any]:
    said: dict[str, Any] = {}
    literals = [f"http://{host}:{PORT}/" for host in LITERALS]
    named = [f"http://{host}:{PORT}/" for host in NAMES]
    settings = {"RETRIES": str(RETRIES), "RETRY_TIME": "0.05", "DELIVERY_AUTH": "none"}
    for mode, more in {"public": {}, "private": {}, "rules": {"EGRESS": "public"} | ALLOWED}.items():
        more |= {"REDIS_URL": redis.url} if mode == "private" else {}
        watch = Watch()
        async with (
            serving(
                folder,
                "--data-dir",
                str(folder / mode),
                **({"EGRESS": mode, "DELIVERY_AUTH": "derived"} | settings | more),
            ) as process,
            client_of(process) as client,
        ):
            if mode == "rules":
                found = await ended(client, BY_RULES)
            else:
                found = await ended(client, [*literals, *named])
            if mode == "public":
                rebinding = [f"http://{number}.rebind.test" for number in range(4)]
                found |= await ended(client, [f"{host}:{PORT}/" for host in rebinding])
                found |= await ended(client, [f"{host}:{OTHER_PORT}/" for host in rebinding])
                found |= await ended(client, [f"http://{PUBLIC}:{PORT}/redirect"])
            if mode == "private":
                port = process.events("started")[0]["port"]
                own = {"own": f"http://10.9.9.9:{port}/", "redis": f"http://10.9.9.9:{redis.port}/"}
                own_found = await ended(client, own.values())
                found |= {name: own_found[webhook] for name, webhook in own.items()}
            log = process.events("bury") + process.events("retry")
            said[mode] = {
                "found": found,
                "log": {event["key"]: event.get("detail", "") for event in log},
                "said": process.events("egress"),
            }
        said[mode]["dialled"] = sorted({address for address, port in watch.seen if port in (PORT, OTHER_PORT)})
        watch.close()
    said["asked"] = dict(names.asked)
    return said


async def main() -> None:
    names = Names()
    folder = Path(sys.argv[1])
    async with receiving(), naming(names, port=53) as server, redis_process(folder) as redis:
        server.ttl_s = 0
        print(json.dumps(await course(folder, names, redis)))


if __name__ == "__main__":
    asyncio.run(main())
