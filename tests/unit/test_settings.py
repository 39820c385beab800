"""Settings: options before variables before defaults; an empty variable is an unset one."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from redis_scheduler import cli
from redis_scheduler.errors import SettingsError
from redis_scheduler.loading import SOURCES, load, sources, variables
from redis_scheduler.process.hazards import hazards
from redis_scheduler.process.process import Process
from redis_scheduler.settings import ALL, API, WORKER, Settings


def test_the_defaults_are_the_contracts() -> None:
    assert load(ALL, {}, {}) == Settings(
        redis_url=None,
        namespace="",
        api_auth=None,
        port=8080,
        host=None,
        retries=5,
        retry_time=60,
        retry_backoff="fixed",
        retry_max=None,
        retry_jitter=None,
        retry_for=None,
        retry_after_most=86_400,
        final_statuses="none",
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


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"RETRY_FOR": "30"},
            ["RETRY_FOR=30: must be at least RETRY_TIME, which is 60, or no retry is ever made"],
        ),
        (
            {"RETRY_BACKOFF": "exponential", "RETRY_MAX": "5", "RETRY_TIME": "5.5"},
            ["RETRY_MAX=5: must be at least RETRY_TIME, which is 5.5"],
        ),
        (
            {"EGRESS_PROXY": "http://user:secret@proxy:3128", "EGRESS": "public", "EGRESS_DENY": ":25"},
            [
                "EGRESS=public: has no effect beside EGRESS_PROXY, which decides then",
                "EGRESS_DENY=:25: has no effect beside EGRESS_PROXY, which decides then",
            ],
        ),
        (
            {"WORKER_SHARDS": "0-2", "REDIS_URL": "redis://a,redis://b"},
            ["WORKER_SHARDS=0-2: must be numbers from 0 to 1: REDIS_URL lists 2 servers"],
        ),
        ({"MAX_TIMEOUT": "5"}, ["MAX_TIMEOUT=5: must be at least TIMEOUT, which is 10"]),
        ({"DATA_PLAIN": "refuse"}, ["DATA_PLAIN=refuse: has no effect without DATA_KEY, which seals"]),
        (
            {"DATA_KEY": "secret"},
            [
                "DATA_KEY: must be 1 to 16 different keys with spaces between, each 32 bytes in base64 or hexadecimal digits, "
                "as of `openssl rand -base64 32`"
            ],
        ),
        (
            {"RETRY_FOR": "1", "MAX_TIMEOUT": "900", "TIMEOUT": "901"},
            [
                "RETRY_FOR=1: must be at least RETRY_TIME, which is 60, or no retry is ever made",
                "MAX_TIMEOUT=900: must be at least TIMEOUT, which is 901",
            ],
        ),
    ],
)
def test_settings_that_contradict_each_other_are_named(given: dict[str, str], said: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load(ALL, {}, given)
    assert caught.value.problems == said


@pytest.mark.parametrize(
    "given",
    [
        {"RETRY_FOR": "30", "RETRIES": "0"},
        {"RETRY_FOR": "54", "RETRY_BACKOFF": "linear"},
        {"RETRY_MAX": "5"},
        {"RETRIES": "0", "RETRY_TIME": "5", "RETRY_BACKOFF": "linear", "RETRY_MAX": "9", "FINAL_STATUSES": "410"},
        {"RETRY_TIME": "0", "RETRY_BACKOFF": "exponential", "RETRY_JITTER": "0.5"},
        {"MAX_TIMEOUT": "10"},
    ],
)
def test_settings_that_are_for_tasks_with_options_of_their_own_are_taken(given: dict[str, str]) -> None:
    load(ALL, {}, given)


@pytest.mark.parametrize("text", ["1_0", "٤", "4.0", "1e1", "0x4"])
def test_numbers_are_digits(text: str) -> None:
    with pytest.raises(SettingsError, match=f"SHARDS={re.escape(text)}: must be a whole number from 1 to 15"):
        load(ALL, {}, {"SHARDS": text})
    if text in ("1_0", "٤"):
        with pytest.raises(SettingsError, match=f"RETRY_TIME={text}: must be"):
            load(ALL, {}, {"RETRY_TIME": text})


@pytest.mark.parametrize(
    "text", ["x", "15", "0-15", "3-1", "0,,1", "0,0", "0-2,1", "-1", "1-", "0 1", "0-1-2", "٣", ","]
)
def test_shards_that_are_none_are_told_in_a_line(text: str) -> None:
    said = f"WORKER_SHARDS={text}: must be numbers of shards from 0 to 14, each once, such as 0-3 or 0,2,5-7"
    with pytest.raises(SettingsError) as caught:
        load(ALL, {}, {"WORKER_SHARDS": text})
    assert caught.value.problems == [said]


@pytest.mark.parametrize(
    ("text", "served"), [("", {0, 1, 2, 3, 4, 5}), ("0-3", {0, 1, 2, 3}), ("0,2,5-14", {0, 2, 5}), ("7", set())]
)
def test_a_worker_serves_the_shards_that_it_is_given_and_an_api_none(text: str, served: set[int]) -> None:
    settings = load(ALL, {}, {"WORKER_SHARDS": text})
    assert {number for number in range(6) if Process(WORKER, settings).delivers_from(number)} == served
    assert not any(Process(API, settings).delivers_from(number) for number in range(6))


@pytest.mark.parametrize("variable", ["RETRY_TIME", "RETRY_AFTER_MOST", "DEAD_TTL", "RESULT_TTL", "SHUTDOWN_GRACE"])
def test_seconds_are_0_or_a_millisecond_at_least(variable: str) -> None:
    for text in ("0.0001", "-0.001", "nan", "x"):
        with pytest.raises(
            SettingsError, match=f"^{variable}={text}: must be 0, or a number of seconds from 0.001 to "
        ):
            load(ALL, {}, {variable: text})
    for text in ("0", "0.0", "0.001"):
        assert getattr(load(ALL, {}, {variable: text}), variable.lower()) == float(text)


@pytest.mark.parametrize("url", ["redis://h", "rediss://u:p@h:1/2", "unix:///tmp/redis.sock?db=1"])
def test_each_kind_of_redis_url_is_taken(url: str) -> None:
    assert load(API, {}, {"REDIS_URL": url, "API_AUTH": "t"}).redis_url == url


def test_a_wrong_url_is_not_told_twice() -> None:
    with pytest.raises(SettingsError) as caught:
        load(API, {}, {"REDIS_URL": "nonsense"})
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["REDIS_URL", "API_AUTH"]


@pytest.mark.parametrize(
    ("host", "token", "listens_on"),
    [(None, None, "127.0.0.1"), (None, "t", "::"), ("10.0.0.1", "t", "10.0.0.1"), ("::1", None, "::1")],
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


def test_where_settings_come_from_is_known_also_to_children(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("a-token\n")
    environment = {"API_AUTH_FILE": str(path), "REDIS_URL": "redis://h", "RETRIES": "7", "PORT": "1", "TIMEOUT": ""}
    settings = load(API, {"port": "2"}, environment)
    found = sources(settings, environment)
    assert found == {"API_AUTH": str(path), "REDIS_URL": "environment", "RETRIES": "environment", "PORT": "option"}
    told = environment | variables(settings) | {SOURCES: json.dumps(found)}
    assert sources(load(API, {}, told), told) == found


@pytest.mark.parametrize("role", [ALL, API, WORKER])
def test_each_role_may_run_as_several_processes(role: str) -> None:
    environment = {"REDIS_URL": "redis://h", "API_AUTH": "t", "PROCESSES": "64"}
    assert load(role, {}, environment).processes == 64


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
def test_a_secret_may_stand_in_a_file(ending: str, tmp_path: Path) -> None:
    environment = {}
    for name, secret in (("API_AUTH", "a-token"), ("REDIS_URL", "redis://h")):
        (tmp_path / name).write_text(secret + ending, newline="")
        environment[f"{name}_FILE"] = str(tmp_path / name)
    settings = load(API, {}, environment)
    assert (settings.api_auth, settings.redis_url) == ("a-token", "redis://h")
    # A child of the supervisor has the variables of both.
    assert load(API, {}, environment | variables(settings)) == settings
    assert load(API, {"redis_url": "redis://other"}, environment).redis_url == "redis://other"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"now three words\n", "must be one token, or two different ones with a space between while it is changed"),
        (b"one one\n", "must be one token, or two different ones with a space between while it is changed"),
        (b"one \n", "must be one token, or two different ones with a space between while it is changed"),
        (b"one tw\xc3\xb6\n", "must be visible ASCII characters without spaces"),
        (b"one\ntwo\n", "must be visible ASCII characters without spaces"),
        ("schlüssel".encode(), "must be visible ASCII characters without spaces"),
        (b"\xff\xfe", "must be UTF-8 text"),
        (b"x" * 70_000, "is larger than 65536 bytes"),
    ],
)
@pytest.mark.parametrize("role", [ALL, API, WORKER])
def test_a_file_that_holds_no_secret_is_one_line(role: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load(role, {}, {"API_AUTH_FILE": str(file), "REDIS_URL": "redis://h"})
    assert caught.value.problems == [f"API_AUTH_FILE={file}: {said}"]


def test_a_folder_and_an_endless_file_are_no_secrets(tmp_path: Path) -> None:
    for path, said in ((tmp_path, "cannot be read: Is a directory"), ("/dev/zero", "is larger than 65536 bytes")):
        with pytest.raises(SettingsError) as caught:
            load(ALL, {}, {"API_AUTH_FILE": str(path)})
        assert caught.value.problems == [f"API_AUTH_FILE={path}: {said}"]


def test_a_pipe_is_waited_for_only_where_somebody_writes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingsError, match="is empty"):
        load(ALL, {}, {"API_AUTH_FILE": str(tmp_path / "pipe")})
    script = 'exec 3< <(sleep 0.2; echo a-token); API_AUTH_FILE=/dev/fd/3 exec "$0" -c "$1"'
    code = "from redis_scheduler.loading import load; print(load('all').api_auth)"
    command = ["bash", "-c", script, sys.executable, code]
    assert subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout == "a-token\n"


@pytest.mark.parametrize("name", ["a..b", "." * 3, "x" * 64, "h\udcff"])
def test_a_host_that_cannot_be_one_is_one_line(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(ALL, {}, {"HOST": name})
    assert caught.value.problems == [f"HOST={name[:60]}: must be an address or the name of a host"]


def test_an_address_may_stand_in_brackets() -> None:
    for given, host in (("[::1]", "::1"), ("::1", "::1"), ("[fe80::1%lo]", "fe80::1%lo"), ("localhost.", "localhost.")):
        assert load(ALL, {}, {"HOST": given}).listen_host == host


def test_a_folder_that_no_log_can_name_is_one_line() -> None:
    with pytest.raises(SettingsError) as caught:
        load(ALL, {}, {"DATA_DIR": "/tmp/x\udcff"})
    assert caught.value.problems == ["DATA_DIR=/tmp/x\udcff: must be UTF-8 text"]


def test_a_secret_comes_from_one_place(tmp_path: Path) -> None:
    for name in ("API_AUTH", "REDIS_URL"):
        with pytest.raises(SettingsError) as caught:
            load(ALL, {}, {name: "x", f"{name}_FILE": str(tmp_path)})
        assert caught.value.problems == [f"{name} and {name}_FILE: only one of them may be set"]


def test_a_redis_url_in_a_file_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://:hidden@h:port")
    with pytest.raises(SettingsError) as caught:
        load(ALL, {}, {"REDIS_URL_FILE": str(tmp_path / "url")})
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("role", [(), ("api",), ("worker",), ("doctor",), ("health",)])
@pytest.mark.parametrize(
    "option", [("--api-auth", "hidden"), ("--api-auth=hidden",), ("--api_auth", "hidden"), ("--api-auth",)]
)
def test_a_token_is_no_option(
    role: tuple[str, ...], option: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ((*role, *option), (*option, *role)):
        with pytest.raises(SystemExit) as caught:
            cli._main(arguments)
        assert caught.value.code == 2
        assert capsys.readouterr() == (
            "",
            "redis-scheduler: --api-auth: refused, since every user of this machine can read it in the list of "
            "processes; set API_AUTH, or API_AUTH_FILE to a file that holds it\n",
        )


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(ALL, {}, {}).port = 1  # type: ignore[misc]  # that is the test


def test_a_grace_shorter_than_a_delivery_is_a_hazard() -> None:
    assert hazards(Settings()) == []
    assert "SHUTDOWN_GRACE=5" in hazards(Settings(shutdown_grace=5))[0]


@pytest.mark.parametrize(
    ("host", "token", "is_hazard"),
    [
        (None, "x" * 15, True),
        (None, "x" * 16, False),
        ("0.0.0.0", "", True),
        ("::", "x", True),
        ("10.0.0.1", "x", True),
        ("::ffff:10.0.0.1", "x", True),
        ("scheduler.internal", "x", True),
        ("127.0.0.1", "x", False),
        ("127.9.9.9", "x", False),
        ("::1", "x", False),
        ("::ffff:127.0.0.1", "x", False),
        ("localhost", "x", False),
        ("LOCALHOST.", "x", False),
    ],
)
def test_a_short_token_on_a_public_address_is_a_hazard(host: str | None, token: str, is_hazard: bool) -> None:
    settings = Settings(host=host, api_auth=token)
    found = hazards(settings, token, listens=True)
    assert [hazard.startswith("API_AUTH is shorter than 16 characters") for hazard in found] == [True] * is_hazard
    assert hazards(settings, token, listens=False) == []
