"""Behind the nginx of docs/howto/proxy.md, with TLS and a path, in a real browser."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.browser.conftest import Eyes, browsing
from tests.support.howto import FOLDER, blocks, start_variables
from tests.support.redis_process import free_port
from tests.support.reverse_proxies import is_missing, nginx, running
from tests.support.service import Client, client_of, serving

CERTIFICATES = Path(__file__).parents[1] / "support/certificates"
PAGE = (FOLDER / "proxy.md").read_text()
NAME = "example.com"

pytestmark = pytest.mark.skipif(is_missing("nginx"), reason="needs nginx")


def servers_before(service: str, https: int, http: int) -> str:
    """The page's file, with ports, certificate and service of this test."""
    [servers] = [block.text for block in blocks(PAGE) if block.kind == "nginx"]
    for shown, own in (
        ("listen 443 ssl", f"listen 127.0.0.1:{https} ssl"),
        ("listen 80", f"listen 127.0.0.1:{http}"),
        ("/etc/ssl/example.com.pem", str(CERTIFICATES / "test-localhost.pem")),
        ("/etc/ssl/example.com.key", str(CERTIFICATES / "test-key.pem")),
        ("127.0.0.1:8080", service),
        ("https://$host$request_uri", f"https://$host:{https}$request_uri"),
    ):
        assert servers.count(shown) == 1, shown
        servers = servers.replace(shown, own)
    return servers


@asynccontextmanager
async def behind_nginx(tmp_path: Path, redis_url: str) -> AsyncIterator[tuple[Client, str, str]]:
    """Yield a client of the service itself, and where nginx shows it by https and by http."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    https, http = free_port(), free_port()
    async with serving(tmp_path, REDIS_URL=redis_url, **start_variables(PAGE)) as process, client_of(process) as api:
        command = nginx(folder, servers_before(api.url.removeprefix("http://"), https, http))
        async with running(command, folder, https):
            yield api, f"https://{NAME}:{https}/jobs", f"http://{NAME}:{http}/jobs"


@asynccontextmanager
async def browsing_there(url: str) -> AsyncIterator[Eyes]:
    """A browser to which the name is this machine's."""
    switch = f"--host-resolver-rules=MAP {NAME} 127.0.0.1"
    async with browsing(url, switch, ignore_https_errors=True) as eyes:
        yield eyes


async def test_all_of_it_works_below_a_path(tmp_path: Path, redis_url: str) -> None:
    async with behind_nginx(tmp_path, redis_url) as (api, https, http), browsing_there(https) as eyes:
        page = eyes.page
        # From http, and without the last slash: it leads to where one signs in, and from there to what was wanted.
        await page.goto(f"{http}/ui/tasks?state=paused")
        assert page.url.startswith(f"{https}/ui/login?next=")
        await page.fill("#token", api.headers["Authorization"])
        await page.press("#token", "Enter")
        await page.wait_for_url(f"{https}/ui/tasks?state=paused")
        [cookie] = await page.context.cookies()
        assert (cookie["path"], cookie["secure"], cookie["domain"]) == ("/jobs/ui/", True, NAME)
        await page.goto(https)
        assert page.url == f"{https}/ui/"

        await page.click("text=Try it")
        await page.wait_for_url(f"{https}/ui/try")
        await page.fill("[name=ttl]", "0")
        await page.fill("[name=data]", '{"behind": "nginx"}')
        await page.click("text=Schedule it")
        await page.wait_for_selector("#part-echo .arrival >> text=behind", timeout=20_000)
        await page.click("#part-echo .arrival a")
        assert page.url.startswith(f"{https}/ui/task/")

        await api.call("PUT", "/schedule/order:17", json={"webhook": "http://127.0.0.1:9/", "ttl": 900})
        await page.fill("#find", "order:17")
        await page.press("#find", "Enter")
        await page.wait_for_url(f"{https}/ui/task/order:17")
        await page.click("#part-task >> text=Pause")
        await page.wait_for_selector("#part-task >> text=Resume")
        [noted] = (await api.call("GET", "/audit"))[1]["data"][:1]
        assert (noted["what"], noted["client"], len(noted["request_id"])) == (
            "POST /schedule/{key}/pause",
            "127.0.0.1",
            32,
        )

        for link in await page.eval_on_selector_all("header nav a", "found => found.map(one => one.href)"):
            assert link.startswith(f"{https}/ui/")
            await page.goto(link)
            assert page.url == link
        assert [url for url in eyes.asked if not url.startswith((f"{https}/", f"{https}", http, "data:image/"))] == []
        assert eyes.complaints == []

        await page.click("text=Sign out")
        await page.wait_for_url(f"{https}/ui/login")
        assert await page.context.cookies() == []


async def test_the_cookie_goes_over_https_alone_and_to_no_other_path(tmp_path: Path, redis_url: str) -> None:
    async with behind_nginx(tmp_path, redis_url) as (api, https, http), browsing_there(https) as eyes:
        await eyes.sign_in(api.headers["Authorization"])
        context = eyes.page.context
        for url, is_sent in ((f"{https}/ui/tasks", True), (f"{https}/stats", False), (f"{http}/ui/tasks", False)):
            found = await context.cookies(url)
            assert bool(found) is is_sent, url
        async with eyes.page.expect_request(f"{http}/ui/tasks") as asked:
            await eyes.page.goto(f"{http}/ui/tasks")
        assert "cookie" not in await (await asked.value).all_headers()


async def test_nobody_else_is_believed(tmp_path: Path, redis_url: str) -> None:
    """What a client says in these headers nginx does not pass on."""
    async with behind_nginx(tmp_path, redis_url) as (api, https, _), browsing_there(https) as eyes:
        await eyes.page.set_extra_http_headers({"X-Forwarded-Host": "evil.example", "X-Forwarded-For": "192.0.2.1"})
        await eyes.sign_in(api.headers["Authorization"])
        await eyes.see("/ui/try")
        assert "evil.example" not in await eyes.page.content()
        await api.call("PUT", "/schedule/own", json={"webhook": "http://127.0.0.1:9/", "ttl": 900})
        await eyes.see("/ui/task/own")
        await eyes.page.click("#part-task >> text=Pause")
        await eyes.page.wait_for_selector("#part-task >> text=Resume")
        assert (await api.call("GET", "/audit"))[1]["data"][0]["client"] == "127.0.0.1"
