"""Settings: options before variables before defaults; an empty variable is an unset one."""

import dataclasses
from pathlib import Path

import pytest

from redis_scheduler.errors import SettingsError
from redis_scheduler.settings import ALL, API, WORKER, Settings, hazards, load, variables


def test_the_defaults_are_the_contracts() -> None:
    assert load(ALL, {}, {}) == Settings(
        redis_url=None,
        api_auth=None,
        port=8080,
        host=None,
        retries=5,
        retry_time=60,
        timeout=10,
        concurrency=200,
        processes=1,
        max_body=1_048_576,
        shutdown_grace=15,
        data_dir=Path("redis-scheduler-data"),
        log_level="info",
        log_format=None,
    )


def test_options_come_before_variables_and_empty_variables_are_unset() -> None:
    settings = load(
        ALL, {"port": "1", "retries": None}, {"PORT": "2", "RETRIES": "-1", "TIMEOUT": "", "RETRY_TIME": "0.5"}
    )
    assert (settings.port, settings.retries, settings.timeout, settings.retry_time) == (1, -1, 10, 0.5)


@pytest.mark.parametrize("url", ["redis://h", "rediss://u:p@h:1/2", "unix:///tmp/redis.sock?db=1"])
def test_each_kind_of_redis_url_is_taken(url: str) -> None:
    assert load(API, {}, {"REDIS_URL": url, "API_AUTH": "t"}).redis_url == url


def test_a_wrong_url_is_not_told_twice() -> None:
    with pytest.raises(SettingsError) as caught:
        load(API, {}, {"REDIS_URL": "nonsense"})
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["REDIS_URL", "API_AUTH"]


@pytest.mark.parametrize(
    ("host", "token", "listens_on"),
    [(None, None, "127.0.0.1"), (None, "t", "0.0.0.0"), ("10.0.0.1", "t", "10.0.0.1"), ("::1", None, "::1")],
)
def test_without_a_token_it_listens_on_the_loopback(host: str | None, token: str | None, listens_on: str) -> None:
    assert Settings(host=host, api_auth=token).listen_host == listens_on


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(redis_url="unix:///a%20b/redis.sock", api_auth="t", host="::1", retry_time=0.1, data_dir=Path("/a b")),
    ],
)
def test_the_variables_of_settings_make_the_same_settings(settings: Settings) -> None:
    assert load(ALL, {}, variables(settings)) == settings


@pytest.mark.parametrize("role", [ALL, API, WORKER])
def test_each_role_may_run_as_several_processes(role: str) -> None:
    environment = {"REDIS_URL": "redis://h", "API_AUTH": "t", "PROCESSES": "64"}
    assert load(role, {}, environment).processes == 64


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(ALL, {}, {}).port = 1  # type: ignore[misc]  # that is the test


def test_a_grace_shorter_than_a_delivery_is_a_hazard() -> None:
    assert hazards(Settings()) == []
    assert "SHUTDOWN_GRACE=5" in hazards(Settings(shutdown_grace=5))[0]
