"""The page of what repeats: its series, their times, how each last ended, and buttons for whom they are."""

from pathlib import Path

from redis_scheduler.store.client import RedisClient
from tests.support.pages import Browser
from tests.support.receiver import Receiver
from tests.support.service import TOKEN, Client, client_of, serving
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

HOOK = "http://127.0.0.1:9/hook"


async def test_series_are_listed_with_their_times_and_changed_by_their_buttons(admin: Browser, api: Client) -> None:
    repeat = {"cron": "30 8 * * 1-5", "tz": "Europe/Berlin"}
    _, found = await api.call("POST", "/schedule?type=mail", json={"webhook": HOOK, "repeat": repeat})
    key = found["key"]
    await api.schedule(HOOK, ttl=900)
    page = await admin.get("/ui/repeating")
    assert page.status == 200
    assert page.html.count("data-local") == 5
    assert page.text.count("08:30:00 Europe/Berlin") == 5
    assert "cron 30 8 * * 1-5, tz Europe/Berlin" in page.text
    for verb, state in (("pause", "paused"), ("resume", "scheduled")):
        assert f'action="/ui/do/{verb}/{key}"' in (await admin.get("/ui/repeating")).html
        await admin.post(f"/ui/do/{verb}/{key}")
        assert (await api.call("GET", f"/schedule/{key}"))[1]["data"]["info"]["state"] == state
    assert key in (await admin.get("/ui/repeating?type=mail&state=scheduled")).text
    assert "No series fits these filters" in (await admin.get("/ui/repeating?state=paused")).text
    assert (await admin.get("/ui/repeating?repeats=false")).status == 400
    await admin.post(f"/ui/do/cancel/{key}")
    assert "Nothing repeats" in (await admin.get("/ui/repeating")).text


async def test_a_series_shows_how_its_last_occurrence_ended_and_no_button_without_rights(
    redis_url: str, tmp_path: Path, client: RedisClient, receiver: Receiver
) -> None:
    async with serving(tmp_path, REDIS_URL=redis_url, RETRIES="0") as process, client_of(process) as api:
        for key, webhook in (("mail:1", receiver.url), ("bill:1", HOOK)):
            name, repeat = key.partition(":")[0], {"every": 600}
            body = {"webhook": webhook, "repeat": repeat, "ttl": 0}
            assert (await api.call("PUT", f"/schedule/{key}?type={name}", json=body))[0] == 200
        browser = Browser(api.session, api.url)
        await browser.sign_in(TOKEN)

        async def have_ended() -> bool:
            text = (await browser.get("/ui/part/repeating")).text
            return "scheduled delivered" in text and "scheduled dead cannot connect: Connection refused" in text

        await wait_until(have_ended, "both have ended, and the page is read anew", timeout_s=20)
        reader = Browser(api.session, api.url)
        await reader.sign_in(await make_token(client, "read", types=("mail",)))
        page = await reader.get("/ui/repeating")
        assert "mail:1" in page.text
        assert "bill:1" not in page.text
        assert "/ui/do/" not in page.html
        for verb in ("run", "pause", "cancel"):
            assert (await reader.post(f"/ui/do/{verb}/mail:1")).status == 409
