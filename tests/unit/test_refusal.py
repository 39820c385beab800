"""What Redis answers when it serves nobody, or no writes: as the library hands it over, whole or wrapped by a
script."""

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import ResponseError

from redis_scheduler.errors import StoreFull, StoreRefused, StoreUnavailable
from redis_scheduler.store.refusal import name_command, refused_calls, suspected, told, translated

WRAPPED = "ERR Error running script (call to f_0): @user_script:9: @user_script: 9: -{}"
AWAY = [
    "LOADING Redis is loading the dataset in memory",
    "READONLY You can't write against a read only replica.",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS Not enough good replicas to write.",
    "CLUSTERDOWN The cluster is down",
    "NOAUTH Authentication required.",
    "NOPERM this user has no permissions to run the 'evalsha' command",
]
FULL = "OOM command not allowed when used memory > 'maxmemory'."


@pytest.mark.parametrize("form", ["{}", WRAPPED])
@pytest.mark.parametrize("answer", AWAY)
def test_a_redis_that_does_not_serve_is_unavailable(answer: str, form: str) -> None:
    assert isinstance(translated(BaseParser.parse_error(form.format(answer))), StoreUnavailable)


@pytest.mark.parametrize("form", ["{}", WRAPPED, "{} script: 0, on @user_script:9."])
def test_a_full_redis_is_full(form: str) -> None:
    assert isinstance(translated(BaseParser.parse_error(form.format(FULL))), StoreFull)


def test_an_answer_that_nobody_knows_is_a_refusal_that_repeats_it() -> None:
    meaning = translated(BaseParser.parse_error("ERR something new"))
    assert isinstance(meaning, StoreRefused)
    assert str(meaning) == "Redis refuses a call: ERR something new"


@pytest.mark.parametrize("form", ["{}", WRAPPED])
@pytest.mark.parametrize("answer", AWAY)
def test_a_client_is_told_what_redis_refuses_and_nothing_of_it_besides(answer: str, form: str) -> None:
    said = told(translated(BaseParser.parse_error(form.format(answer))))
    code = answer.partition(" ")[0]
    if code == "LOADING":
        assert said == "Redis is loading its data"
    else:
        why = (
            "it cannot save to its disk; make room there, or see its log"
            if code == "MISCONF"
            else "the service's log says why"
        )
        assert said == f"Redis refuses what the service asks ({code}): {why}"


@pytest.mark.parametrize(
    ("text", "is_suspected"),
    [
        ("no answer in time", True),
        ("Error while reading from a:1 : (104, 'Connection reset by peer')", True),
        ("Error while reading from a:1 : (1, '[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] …')", False),
        ("Error 111 connecting to a:1. Connection refused.", False),
    ],
)
def test_only_where_nothing_speaks_of_tls_it_may_be_at_fault(text: str, is_suspected: bool) -> None:
    assert ("where it speaks no TLS" in suspected(StoreUnavailable(text), "rediss://a")) == is_suspected


def test_a_password_that_redis_has_not_is_told_with_what_to_do() -> None:
    answer = "ERR AUTH <password> called without any password configured for the default user."
    assert "no password is set there: leave it out of REDIS_URL" in str(translated(BaseParser.parse_error(answer)))


@pytest.mark.parametrize(
    "answer",
    [
        "WRONGPASS invalid username-password pair for SECRET",
        "NOPERM User SECRET has no permissions to access the 'SECRET:9' key",
        "MOVED 3999 SECRET:6379",
        "ASK 3999 SECRET:6379",
        "ERR unknown command 'SECRET', with args beginning with: 'SECRET'",
        "ERR SECRET",
        "SECRET",
        "DENIED Redis is running in protected mode because SECRET",
    ],
)
def test_a_client_is_told_no_name_user_or_key(answer: str) -> None:
    said = told(translated(BaseParser.parse_error(answer)))
    assert said.startswith("Redis refuses what the service asks")
    assert "SECRET" not in said


def test_a_client_is_told_that_redis_is_not_there_where_it_did_not_answer() -> None:
    for error in (ConnectionError("SECRET:6379 NOPERM"), TimeoutError("SECRET")):
        assert told(translated(error)) == "Redis cannot be reached"
    refused = refused_calls([("SET", "{rs:0}:x", "NOPERM User SECRET has no permissions")])
    assert told(StoreRefused(refused)) == "Redis refuses what the service asks (NOPERM): the service's log says why"


SCRIPT = "-- a header\nredis.call('TIME')\nredis.call('GET', 'x')"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        *(("2", "TIME: "), (" 3", "GET: ")),
        *((line, "") for line in ("0", "1", "-1", "4", "999", "003", "9" * 5_000, "", "x", "\u0663")),
    ],
)
@pytest.mark.parametrize("text", ["NOPERM this user may not: user_script:{}: x", "ERR unknown command user_script:{}"])
def test_a_command_is_named_by_its_line_whatever_number_stands_there(text: str, line: str, named: str) -> None:
    error = ResponseError(text.format(line))
    name_command(error, SCRIPT)
    assert str(error) == named + text.format(line)
