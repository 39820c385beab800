"""The body of POST /schedules: each fault is told with the number of its task, and no list holds up the service."""

import json
from typing import Any

import msgspec
import pytest

from redis_scheduler.api.batch_requests import BATCH_MOST, batch_request
from redis_scheduler.api.bodies import BatchItem, ScheduleRequest
from redis_scheduler.errors import InvalidRequest
from redis_scheduler.task.options import CALLBACKS
from tests.support.pauses import without_long_pauses

URL = "http://127.0.0.1:9/"
GOOD = f'{{"webhook":"{URL}","ttl":1}}'
RULE = "tasks: must be a list of 1 to 1000 tasks"
KNOWN = f"known: {', '.join(BatchItem.__struct_fields__)}"


def batch_of(*texts: str) -> bytes:
    return f'{{"tasks":[{",".join(texts)}]}}'.encode()


def with_(**texts: str) -> str:
    """A task with members whose values are JSON texts."""
    members = {"webhook": f'"{URL}"', "ttl": "1"} | texts
    return "{" + ",".join(f'"{name}":{text}' for name, text in members.items() if text) + "}"


async def refusal_of(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        await batch_request(body)
    assert len(str(caught.value)) < 400
    return caught.value


async def test_tasks_come_in_their_order_with_their_types() -> None:
    given = [with_(data=f'"{number}"', type="" if number % 2 else '"mail"') for number in range(BATCH_MOST)]
    found = await batch_request(b" " + batch_of(*given) + b"\n")
    assert [bytes(item.data) for item in found] == [b'"%d"' % number for number in range(BATCH_MOST)]  # type: ignore[arg-type]
    assert [item.type for item in found[:2]] == ["mail", msgspec.UNSET]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (with_(method='"GET"', data="1"), ".method: GET sends no body: leave out data, body and body_base64, got GET"),
        (with_(ttl='"5m"'), '.ttl: must be a number of seconds from 0 to 315360000 (ten years), got "5m"'),
        (with_(ttl="-1"), ".ttl: must be a number of seconds from 0 to 315360000 (ten years), got -1"),
        (with_(ttl=""), ".ttl: is missing; it must be a number of seconds from 0 to 315360000 (ten years)"),
        (with_(webhook='"ftp://h/"'), '.webhook: must be an absolute http or https URL, got the scheme "ftp"'),
        (with_(webhook="null"), ".webhook: must be an absolute http or https URL, got null"),
        (with_(type='""'), '.type: must be 1 to 100 printable characters, got ""'),
        (with_(type='"a\\nb"'), '.type: must be 1 to 100 printable characters, got "a\\nb"'),
        (with_(type='"\\ud83d"'), '.type: must be 1 to 100 printable characters, got "\\ud83d"'),
        (with_(type='"' + "x" * 101 + '"'), '.type: must be 1 to 100 printable characters, got "' + "x" * 60 + '…"'),
        (with_(type="null"), ".type: must be 1 to 100 printable characters, got null"),
        (with_(type="5"), ".type: must be 1 to 100 printable characters, got 5"),
        (with_(retries='"x"'), '.retries: must be a whole number from 0 to 1000000, or -1 to retry for ever, got "x"'),
        (with_(retries="1", retry_times="[1]"), ".retries: cannot be given beside retry_times"),
        (with_(on_success='{"webhook":"http://a/","timeout":0}'), ".on_success.timeout: must be a number of seconds"),
        (with_(key='"a.b"'), '.key: must be 1 to 128 letters, digits, _, - or :, got "a.b"'),
        (with_(key='""'), '.key: must be 1 to 128 letters, digits, _, - or :, got ""'),
        (with_(key='"a/b"'), ".key: must be 1 to 128"),
        (with_(key='"\\ud83d"'), ".key: must be 1 to 128"),
        (with_(key="5"), ".key: must be 1 to 128 letters, digits, _, - or :, got 5"),
        (with_(key='"' + "k" * 129 + '"'), ".key: must be 1 to 128"),
        (with_(key='"abcdefghijklmnopqrstuA"'), ".key: has the form of the keys that the service makes"),
        (with_(key='"a"')[:-1] + ',"key":"b"}', '.key: is given twice, got "a" and "b"'),
        (with_(color="1"), f".color: is an unknown field; {KNOWN}"),
        (with_(tasks="[]"), f".tasks: is an unknown field; many tasks are given to POST /schedules; {KNOWN}"),
        (with_(url="1"), f".url: is an unknown field; the address is `webhook`; {KNOWN}"),
        (GOOD[:-1] + ',"ttl":2}', ".ttl: is given twice, got 1 and 2"),
        (with_(type='"a"')[:-1] + ',"type":"b"}', '.type: is given twice, got "a" and "b"'),
        ("{}", ".webhook: is missing; it must be an absolute http or https URL"),
        ("5", ": must be a JSON object, got 5"),
        ("null", ": must be a JSON object, got null"),
        ("[]", ": must be a JSON object, got an array"),
        ('"x"', ': must be a JSON object, got "x"'),
        (with_(data="[" * 128 + "]" * 128), ": is nested more than 128 levels deep"),
    ],
)
@pytest.mark.parametrize("index", [0, 999])
async def test_a_fault_is_told_with_the_number_of_its_task(text: str, said: str, index: int) -> None:
    texts = [GOOD] * BATCH_MOST
    texts[index] = text
    error = await refusal_of(batch_of(*texts))
    assert str(error).startswith(f"tasks[{index}]{said}")
    assert error.index == index
    assert error.field == (said[1:].partition(":")[0] if said[0] == "." else "tasks")


async def test_an_own_key_is_that_of_one_task() -> None:
    error = await refusal_of(batch_of(GOOD, with_(key='"a"'), with_(key='"b"'), with_(key='"a"')))
    assert str(error) == 'tasks[3].key: is that of tasks[1], too, got "a"'


async def test_a_task_is_refused_however_deep_it_is() -> None:
    for depth in range(500, 1_000):  # the list may be cut where one of its tasks cannot be read
        error = await refusal_of(batch_of(with_(headers="[" * depth + "]" * depth)))
        assert error.code.status == 400


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "The body is empty: it must be a JSON object"),
        (b"[]", "The body must be a JSON object, got an array"),
        (b"{}", "tasks: is missing; it must be a list of 1 to 1000 tasks"),
        (b'{"tasks":null}', f"{RULE}, got null"),
        (b'{"tasks":{}}', f"{RULE}, got an object"),
        (b'{"tasks":"x"}', f'{RULE}, got "x"'),
        (b'{"tasks":[]}', f"{RULE}, got none"),
        *[(batch_of(*[GOOD] * count), f"{RULE}, got {count}") for count in (1001, 2000)],
        (batch_of(*[GOOD] * 2001), f"{RULE}, got more than 2000"),
        (batch_of(*["0"] * 300_000), f"{RULE}, got more than 2000"),
        (b'{"tasks":[],"tasks":[]}', "tasks: is given twice, got [] and []"),
        (GOOD.encode(), "webhook: is an unknown field; what POST /schedule takes is given for each task, in the list"),
        (b'{"tasks":[' + GOOD.encode(), "The body is not JSON: it ends too early"),
        (b'{"tasks":[' + GOOD.encode() + b",]}", "The body is not JSON: trailing comma in array"),
        (b'{"tasks":[{"data":"\xff"}]}', "The body is not JSON: it is not UTF-8"),
        (b'{"tasks":' + b"[" * 100_000, "The body is nested more than 128 levels deep"),
    ],
)
async def test_a_list_that_is_none_is_told_as_what_it_is(body: bytes, said: str) -> None:
    error = await refusal_of(body)
    assert str(error).startswith(said)
    assert error.index is None


async def test_data_of_each_is_taken_as_it_is() -> None:
    texts = ['"\\ud83d"', '{"cut":"\\udc00 ü"}', "[1.10, 2e400]", '"\\\\ud83d"', '{"data":1,"data":1}', "null"]
    found = await batch_request(batch_of(*(with_(data=text) for text in texts)))
    assert [bytes(item.data).decode() for item in found] == texts  # type: ignore[arg-type]  # it is given
    deepest = "[" * 127 + "]" * 127
    assert len(await batch_request(batch_of(*[with_(data=deepest)] * 1000))) == 1000


def test_a_task_of_many_has_all_fields_of_one() -> None:
    assert set(BatchItem.__struct_fields__) - set(ScheduleRequest.__struct_fields__) == {"type", "key"}


MEGABYTE = 1_000_000
_GOOD_ONES: list[Any] = [{"webhook": f"{URL}{number}?a=1", "ttl": number, "type": "mail"} for number in range(1000)]


def callbacks(depth: int) -> str:
    """A callback with two in each that stands in it; what it says twice makes a body be examined."""
    deeper = {name: callbacks(depth - 1) for name in CALLBACKS} if depth > 1 else {}
    return with_(headers='{"A":"1"}', include_data="false", **deeper)


LARGE = {
    "small tasks": json.dumps({"tasks": _GOOD_ONES}).encode(),
    "a megabyte of tasks": batch_of(*[with_(data='"' + "x" * 960 + '"')] * 1000),
    "halves of pairs": batch_of(*[with_(data='"' + "\\ud83d" * 160 + '"')] * 1000),
    "numbers": batch_of(*["0"] * (MEGABYTE // 2)),
    "empty objects": batch_of(*["{}"] * (MEGABYTE // 3)),
    "callbacks in callbacks": batch_of(*[with_(**{name: callbacks(8) for name in CALLBACKS})] * 24),
    "one task with brackets": batch_of(with_(data="[" + "[]," * (MEGABYTE // 3) + "1]")),
}


@pytest.mark.parametrize("name", LARGE)
async def test_no_list_holds_up_the_service(name: str) -> None:
    async with without_long_pauses():
        if name in ("numbers", "empty objects"):
            assert str(await refusal_of(LARGE[name])) == f"{RULE}, got more than 2000"
        else:
            await batch_request(LARGE[name])
