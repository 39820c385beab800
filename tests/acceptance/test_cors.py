"""Pages of the origins that CORS_ORIGINS names may ask from a browser, and no others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from redis_scheduler.errors import SettingsError
from redis_scheduler.loading import load
from redis_scheduler.settings import ALL
from tests.support.service import TOKEN, Client, client_of, serving

PAGE = "https://shop.example"
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


async def asked(user: Client, method: str, headers: Mapping[str, str]) -> tuple[int, Any, Mapping[str, str]]:
    async with user.session.request(method, f"{user.url}/schedules", headers=headers) as response:
        return response.status, await response.json(), response.headers


async def test_only_named_origins_may_ask(redis_url: str, tmp_path: Path) -> None:
    origins = f"http://127.0.0.1:3000 {PAGE}"
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url, CORS_ORIGINS=origins) as process,
        client_of(process) as user,
    ):
        status, content, headers = await asked(user, "OPTIONS", {"Origin": PAGE, **ASKS})
        assert (status, content["status"]) == (200, 200)
        assert headers["Access-Control-Allow-Origin"] == PAGE
        assert "authorization" in headers["Access-Control-Allow-Headers"].lower()
        for wrong in (
            {"Origin": "https://other.example", **ASKS},
            {"Origin": f"{PAGE}.evil.example", **ASKS},
            {"Origin": PAGE, **ASKS, "Access-Control-Request-Method": "TRACE"},
        ):
            status, content, _ = await asked(user, "OPTIONS", wrong)
            assert (status, content["code"], content["field"]) == (400, "invalid-value", "Origin")
        for token, wanted in ((TOKEN, 200), ("wrong", 401)):
            status, _, headers = await asked(user, "GET", {"Origin": PAGE, "Authorization": token})
            assert (status, headers["Access-Control-Allow-Origin"], headers["Vary"]) == (wanted, PAGE, "Origin")
        _, _, headers = await asked(user, "GET", {"Origin": "https://other.example", "Authorization": TOKEN})
        assert "Access-Control-Allow-Origin" not in headers


async def test_without_the_setting_no_page_may_ask(api: Client) -> None:
    status, _, headers = await asked(api, "OPTIONS", {"Origin": PAGE, **ASKS})
    assert status == 401
    _, _, allowed = await asked(api, "GET", {"Origin": PAGE, "Authorization": TOKEN})
    assert not [name for name in [*headers, *allowed] if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "text", ["*", "shop.example", "https://a.example/", "https://A.example", "https://a  https://b", "null"]
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="must be origins as browsers send them"):
        load(ALL, {}, {"CORS_ORIGINS": text})
