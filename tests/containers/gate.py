"""A receiver of webhooks for the inside of a container: it holds its answers until it is opened, and lists what came.

Run from its source, by `python -c`, in the service's own image: so it is reached by name on a network of containers, on
every kind of engine, and imports nothing of the project.
"""

import asyncio

from aiohttp import web

ANSWER_S = 0.1
"""How slow it is once it is open."""


def create_app() -> web.Application:
    """Return the receiver, closed."""
    arrivals: list[dict[str, str]] = []
    opened = asyncio.Event()

    async def receive(request: web.Request) -> web.Response:
        headers = request.headers
        arrivals.append(
            {
                "key": headers["Schedule-Key"],
                "token": headers["Authorization"],
                "from": request.remote or "",
                "body": (await request.read()).decode(),
            }
        )
        await opened.wait()
        await asyncio.sleep(ANSWER_S)
        return web.Response()

    async def show(request: web.Request) -> web.Response:
        return web.json_response(arrivals)

    async def open_gate(request: web.Request) -> web.Response:
        opened.set()
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", receive)
    app.router.add_get("/arrivals", show)
    app.router.add_post("/open", open_gate)
    return app


if __name__ == "__main__":
    web.run_app(create_app(), port=8080, print=None)
