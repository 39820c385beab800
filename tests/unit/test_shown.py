"""What is shown of a task is the same by the short way, which most go, and by the long one."""

import msgspec
import pytest
from msgspec.structs import replace

from redis_scheduler.api.shown import view_of
from redis_scheduler.api.view import Info, PlainInfo
from redis_scheduler.store.stored import Stored, tasks_read
from redis_scheduler.task.record import read_record

DUE = 1_732_358_400_123
RECORDS = [
    b'{"due":%d,"webhook":"http://a/","ttl":60,"data":{"n": [1,  2]}}' % DUE,
    b'{"due":%d,"webhook":"http://a/","ttl":0.5}' % DUE,
    b'{"due":%d,"webhook":"http://a/","ttl":0,"type":"mail","data":null}' % DUE,
]


def stored(raw: bytes) -> Stored:
    return Stored("key", raw, read_record(raw), 0, None, "scheduled", DUE)


@pytest.mark.parametrize("explains", [False, True])
@pytest.mark.parametrize("raw", RECORDS)
def test_both_ways_show_the_same(raw: bytes, explains: bool) -> None:
    short = view_of(stored(raw), explains)
    # `again` is shown by the long way alone, and it stands before what explains.
    long = view_of(replace(stored(raw), record=replace(read_record(raw), again=7)), explains)
    assert isinstance(short.info, PlainInfo)
    assert isinstance(long.info, Info)
    assert msgspec.json.encode(short) == msgspec.json.encode(long).replace(b',"again":7', b"")


def test_a_pause_of_all_is_told_by_the_short_way() -> None:
    paused = replace(stored(RECORDS[0]), all_paused_since_ms=DUE)
    info = view_of(paused, explains=True).info
    assert isinstance(info, PlainInfo)
    assert str(info.waits_for).startswith("`redis-scheduler resume-all`")


def test_that_nobody_serves_is_told_by_the_short_way() -> None:
    info = view_of(replace(stored(RECORDS[0]), unserved="no worker runs"), explains=True).info
    assert isinstance(info, PlainInfo)
    assert str(info.waits_for).startswith("`redis-scheduler worker`: no worker runs; then its time, ")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"due":%d,"webhook":"http://a/","ttl":60,"data":{]}' % DUE,
        b'{"due":%d,"webhook":"http://a/","ttl":60,"cron":1}' % DUE,
        b'{"due":%d,"webhook":"http://a/","ttl":-1}' % DUE,
        b"nothing",
    ],
)
def test_what_is_foreign_or_at_a_time_goes_the_long_way(raw: bytes) -> None:
    assert isinstance(view_of(stored(raw), explains=True).info, Info)


def test_a_task_is_read_the_same_whether_nothing_else_is_kept_of_it_or_not() -> None:
    row = [RECORDS[0], None, b"%d" % DUE, None, None, None, None, None, None, None]
    with_entry = [*row[:4], b"1-1", *row[5:]]
    short, long = tasks_read(["a", "a"], 65_536, 100, None, [DUE, b"9", *row, *with_entry])
    assert isinstance(short, Stored)
    assert isinstance(long, Stored)
    assert replace(long, entry=None) == short
    assert short.all_paused_since_ms == 9
