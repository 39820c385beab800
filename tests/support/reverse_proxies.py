"""Real reverse proxies in front of the service, which share few connections to it among their clients."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.redis_process import free_port
from tests.support.waiting import wait_until

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{servers}
}}
"""

BEFORE_THE_SERVICE = """
    upstream service {{ server 127.0.0.1:{port}; keepalive 1; }}
    {map}
    server {{
        listen 127.0.0.1:{own_port};
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            {fields}
        }}
    }}
"""

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend clients
    bind 127.0.0.1:{own_port}
    default_backend service
backend service
    http-reuse always
    server only 127.0.0.1:{port} maxconn 2 pool-max-conn 1
"""


def _nginx(folder: Path, port: int, own_port: int) -> list[str]:
    fields = 'proxy_set_header Connection "";'
    return nginx(folder, BEFORE_THE_SERVICE.format(port=port, own_port=own_port, map="", fields=fields))


def _nginx_for_websockets(folder: Path, port: int, own_port: int) -> list[str]:
    """As many are configured: offers of another protocol are passed on."""
    servers = BEFORE_THE_SERVICE.format(
        port=port,
        own_port=own_port,
        map='map $http_upgrade $connection_upgrade { default upgrade; "" ""; }',
        fields="proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;",
    )
    return nginx(folder, servers)


def nginx(folder: Path, servers: str) -> list[str]:
    """Write a configuration with these servers into the folder; return the command that runs nginx by it."""
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, servers=servers))
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "nginx.log")]


def _haproxy(folder: Path, port: int, own_port: int) -> list[str]:
    (folder / "haproxy.cfg").write_text(HAPROXY.format(port=port, own_port=own_port))
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


PROXIES: dict[str, Callable[[Path, int, int], list[str]]] = {
    "nginx": _nginx,
    "nginx for websockets": _nginx_for_websockets,
    "haproxy": _haproxy,
}


def is_missing(kind: str) -> bool:
    return _path(kind.partition(" ")[0]) is None


def _path(name: str) -> str | None:
    # Debian keeps them where only root looks.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


@asynccontextmanager
async def reverse_proxy(kind: str, folder: Path, port: int) -> AsyncIterator[int]:
    """Run a proxy before 127.0.0.1:`port` until the end of the block; yield its port. `folder` exists and is its
    own."""
    own_port = free_port()
    async with running(PROXIES[kind](folder, port, own_port), folder, own_port):
        yield own_port


@asynccontextmanager
async def running(command: list[str], folder: Path, own_port: int) -> AsyncIterator[None]:
    """Run a proxy until the end of the block; it listens at the port."""
    name, *arguments = command
    with (folder / "output.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(_path(name) or name, *arguments, stdout=log, stderr=log)
    try:

        async def listens() -> bool:
            assert process.returncode is None, (folder / "output.log").read_text()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", own_port)
            except OSError:
                return False
            writer.close()
            return True

        await wait_until(listens, f"{name} listens")
        yield
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
