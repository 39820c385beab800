"""What the service says once it has started: the address, and, where nothing was set, what to do next."""

import os
import shlex
import socket
import sys

from redis_scheduler import __version__
from redis_scheduler.logs import Events
from redis_scheduler.settings import ALL, Settings

logger = Events(__name__)

LOOPBACK = "127.0.0.1"

IMAGE_MARK = "REDIS_SCHEDULER_IMAGE"
"""A variable of the image: with it, loopback is the container's own."""

UNREACHABLE = (
    "API_AUTH is not set, so the API listens on 127.0.0.1 only, which nobody outside this container reaches: set "
    "API_AUTH to a token of your own, such as with `docker run -p 8080:8080 -e API_AUTH=... -e DELIVERY_AUTH=derived "
    "redis-scheduler`"
)

PAGES = """
Look at it in a browser, and sign in with the token: http://{address}/ui/
"""

CURL = """
Schedule a webhook in 5 seconds:

  curl -X POST http://{address}/schedule -H {header} -H 'Content-Type: application/json' \\
    -d '{{"webhook": "http://127.0.0.1:9000/", "ttl": 5, "data": {{"hello": "world"}}}}'
"""


def announce(
    role: str,
    settings: Settings,
    token: str,
    listener: socket.socket | None,
    metrics_listener: socket.socket | None = None,
) -> None:
    """Say that the service has started; where the token was made, show a request to paste, or why none would arrive."""
    fields: dict[str, object] = {"version": __version__, "role": role}
    if settings.processes > 1:
        fields["processes"] = settings.processes
    if metrics_listener is not None:
        fields["metrics_port"] = metrics_listener.getsockname()[1]
    if listener is None:
        logger.info("started", **fields)
        return
    host, port = listener.getsockname()[:2]
    logger.info("started", **fields, host=host, port=port)
    if role != ALL or settings.api_auth:
        return
    if host == LOOPBACK and os.environ.get(IMAGE_MARK):
        logger.warning("hazard", warning=UNREACHABLE)
        return
    address = LOOPBACK if host in ("0.0.0.0", "::") else host  # noqa: S104  # shown, not bound
    shown = f"[{address}]" if ":" in address else address
    header = _authorization(settings, token)
    if settings.ui == "on":
        print(PAGES.format(address=f"{shown}:{port}"), end="", flush=True)  # noqa: T201  # the command's output
    print(CURL.format(address=f"{shown}:{port}", header=header), flush=True)  # noqa: T201  # the command's output


def _authorization(settings: Settings, token: str) -> str:
    """Return the header as a shell takes it: with the token where a person reads it, who has just started the service.

    Output that goes elsewhere is kept and read by others: a container's log, a file.
    """
    if sys.stdout.isatty():
        return f"'Authorization: {token}'"
    file = shlex.quote(str(settings.data_dir.absolute() / "token"))
    return f'"Authorization: $(cat {file})"'
