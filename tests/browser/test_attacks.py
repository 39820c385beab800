"""What other pages, networks and tokens try with the dashboard of somebody who is signed in, in a real browser."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from redis_scheduler.store.client import RedisClient
from tests.browser.conftest import Eyes, browsing
from tests.support.names import KEYS
from tests.support.service import Client, client_of, serving
from tests.support.tokens import make_token

NOWHERE = "http://127.0.0.1:9/"
KEY = "order:17"

FORM = """<!doctype html><form method="post" action="{url}/ui/do/cancel/{key}"><input name="a" value="b"></form>
<script>document.forms[0].submit()</script>"""
FETCH = """<!doctype html><title>asks</title><script>
fetch("{url}/ui/do/cancel/{key}", {{method: "POST", mode: "no-cors", credentials: "include", body: new URLSearchParams()}})
  .finally(() => {{ document.title = "asked"; }})</script>"""
FRAME = '<!doctype html><iframe src="{url}/ui/" width="900" height="600"></iframe>'
READ = """<!doctype html><title>asks</title><script>
fetch("{url}/ui/tasks", {{credentials: "include"}}).then((got) => got.text()).then((text) => {{ document.title = text; }})
  .catch(() => {{ document.title = "refused"; }})</script>"""


@asynccontextmanager
async def page_of_others(html: str) -> AsyncIterator[int]:
    """Serve a page on a port of its own: another origin, at 127.0.0.1 of the same site, at localhost of another."""

    async def show(_request: web.BaseRequest) -> web.Response:
        return web.Response(text=html, content_type="text/html")

    runner = web.ServerRunner(web.Server(show))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]  # it has started
    finally:
        await runner.cleanup()


@pytest.fixture
async def api(tmp_path: Path, redis_url: str) -> AsyncIterator[Client]:
    """A service in which a task waits."""
    async with serving(tmp_path, "api", REDIS_URL=redis_url) as process, client_of(process) as client:
        await client.call("PUT", f"/schedule/{KEY}", json={"webhook": NOWHERE, "ttl": 900})
        yield client


@pytest.fixture
async def eyes(api: Client) -> AsyncIterator[Eyes]:
    async with browsing(api.url) as found:
        await found.sign_in()
        yield found


async def is_there(api: Client) -> bool:
    return bool((await api.call("GET", f"/schedule/{KEY}"))[1]["data"]["info"]["state"] == "scheduled")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same site", "cross site"])
async def test_a_form_of_another_page_changes_nothing(eyes: Eyes, api: Client, host: str) -> None:
    async with page_of_others(FORM.format(url=eyes.url, key=KEY)) as port:
        await eyes.page.goto(f"http://{host}:{port}/")
        await eyes.page.wait_for_url(f"{eyes.url}/ui/do/**")
        assert "this change was not asked for by a page of the dashboard itself" in await eyes.text()
    assert await is_there(api)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same site", "cross site"])
async def test_a_script_of_another_page_changes_and_reads_nothing(eyes: Eyes, api: Client, host: str) -> None:
    async with page_of_others(FETCH.format(url=eyes.url, key=KEY)) as port:
        async with eyes.page.expect_request("**/ui/do/cancel/*"):
            await eyes.page.goto(f"http://{host}:{port}/")
        await eyes.page.wait_for_function("document.title === 'asked'")
    assert await is_there(api)
    async with page_of_others(READ.format(url=eyes.url)) as port:
        await eyes.page.goto(f"http://{host}:{port}/")
        await eyes.page.wait_for_function("document.title !== 'asks'")
        assert await eyes.page.title() == "refused"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same site", "cross site"])
async def test_no_page_shows_it_in_a_frame(eyes: Eyes, host: str) -> None:
    async with page_of_others(FRAME.format(url=eyes.url)) as port:
        await eyes.page.goto(f"http://{host}:{port}/")
        [frame] = eyes.page.frames[1:]
        assert await frame.evaluate("document.body.innerText.includes('Redis Scheduler')") is False
        assert any("frame" in said for said in eyes.complaints)


async def test_scripts_cannot_read_the_cookie(eyes: Eyes) -> None:
    assert await eyes.page.evaluate("document.cookie") == ""
    [cookie] = await eyes.page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/ui/")


async def test_over_http_from_elsewhere_there_is_no_cookie_to_steal(api: Client) -> None:
    """The browser is told another name of this machine, over http: it may not keep the cookie."""
    port = api.url.rpartition(":")[2]
    url = f"http://scheduler.example:{port}"
    async with browsing(url, "--host-resolver-rules=MAP scheduler.example 127.0.0.1") as eyes:
        await eyes.page.goto(f"{url}/ui/login")
        await eyes.page.fill("#token", api.headers["Authorization"])
        async with eyes.page.expect_response("**/ui/login") as answer:
            await eyes.page.press("#token", "Enter")
        found = await answer.value
        assert (found.status, await found.header_value("set-cookie")) == (403, None)
        assert "ask for this page over https" in await eyes.page.inner_text("[role=alert]")
        # Without the script that says where the page is, the cookie is for https alone: the browser keeps none.
        await eyes.page.fill("#token", api.headers["Authorization"])
        await eyes.page.eval_on_selector("#origin", "one => { one.value = ''; }")
        async with eyes.page.expect_response("**/ui/login") as answer:
            await eyes.page.press("#token", "Enter")
        cookie = await (await answer.value).header_value("set-cookie")
        assert cookie is not None
        assert "Secure" in cookie
        await eyes.page.wait_for_url("**/ui/login?next=**")
        assert await eyes.page.context.cookies() == []


@pytest.mark.parametrize(("rights", "buttons"), [(("read",), ""), (("read", "cancel"), "Cancel")])
async def test_a_token_without_rights_sees_and_does_less(
    api: Client, redis_url: str, rights: tuple[str, ...], buttons: str
) -> None:
    async with aclosing(RedisClient(redis_url, 3, KEYS)) as store, browsing(api.url) as eyes:
        await eyes.sign_in(await make_token(store, *rights))
        await eyes.see(f"/ui/task/{KEY}")
        assert " ".join(await eyes.page.locator("#part-task button:not([data-copy])").all_inner_texts()) == buttons
        for path, body in (
            (f"do/pause/{KEY}", ""),
            ("marked", f"key-a={KEY}&verb=pause&counted=1"),
            ("try", "ttl=0"),
            ("hosts", "host=a:1"),
        ):
            asked = "([path, body]) => fetch('/ui/' + path, {method: 'POST', body: new URLSearchParams(body)}).then((got) => got.text())"
            said = await eyes.page.evaluate(asked, [path, body])
            assert "right" in said, path
        assert await is_there(api)
        for path in ("system", ""):
            await eyes.see(f"/ui/{path}")
            assert "for tokens with the right" in await eyes.text()
