"""Records, failures and summaries as each landed format wrote them: this version reads all of them. A file is named by
its format."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

from redis_scheduler.store.vault import Vault
from redis_scheduler.task.attempts import Attempt, read_failed
from redis_scheduler.task.due import NO_TTL
from redis_scheduler.task.options import RECORD_FORMAT, Callback, Options
from redis_scheduler.task.record import SEAL, Record, read_record
from redis_scheduler.task.repeat import Occurrence, Progress, Repeat
from redis_scheduler.task.summary import Summary, read_summary

FOLDER = Path(__file__).parents[1] / "samples/records"
DUE_MS = 1732358400123
LOCAL = ("http://127.0.0.1:9000", "/")

SAMPLES = {
    "1-at": Record(DUE_MS, "http://127.0.0.1:9000/", NO_TTL, None, b'{"n":1}', None, *LOCAL),
    "1-nothing": Record(DUE_MS, "http://127.0.0.1:9000/", 0, None, None, None, *LOCAL),
    "1-plain": Record(DUE_MS, "http://127.0.0.1:9000/", 3600, None, b'{"n":1}', None, *LOCAL),
    "1-type": Record(
        *(DUE_MS, 'https://host.example/a?q=","data":1', 0.5, "mail", '[ "ü" ]'.encode(), None),
        *("https://host.example", '/a?q=","data":1'),
    ),
    "2-sent": Record(
        *(DUE_MS, "http://127.0.0.1:9000/", 60, "mail", b'{"n":1}', None, *LOCAL),
        Options(method="PUT", headers={"X-A": "1", "data": '","data":é'}, timeout=2.5),
    ),
    "2-body": Record(DUE_MS, "http://127.0.0.1:9000/", 60, None, b'"a \\"text\\""', None, *LOCAL, content="body"),
    "2-bytes": Record(
        *(DUE_MS, "http://127.0.0.1:9000/", 60, None, b'"/+8="', None, *LOCAL),
        Options(method="DELETE"),
        "body_base64",
    ),
    "2-series": Record(
        *(DUE_MS, "http://127.0.0.1:9000/", NO_TTL, None, b'{"n":1}', None, *LOCAL),
        options=Options(
            repeat=Repeat(cron="0 9 * * 1-5", tz="Europe/Berlin", until="2030-01-01T00:00:00Z", missed="all")
        ),
        repetition=Progress(3, 1, "xPynG8TE_wQjDQmPDXLSLA"),
    ),
    "2-occurrence": Record(
        *(DUE_MS, "http://127.0.0.1:9000/", NO_TTL, "mail", b'{"n":1}', None, *LOCAL),
        repetition=Occurrence("xPynG8TE_wQjDQmPDXLSLA", 4),
    ),
    "2-token": Record(
        *(DUE_MS, "http://127.0.0.1:9000/", 60, "mail", b'{"n":1}', None, *LOCAL),
        Options(retries=2),
        token="0f1e2d3c4b",
    ),
    "2-callbacks": Record(
        *(DUE_MS, "http://127.0.0.1:9000/", 60, None, b'{"n":1}', None, *LOCAL),
        Options(
            on_success=Callback(
                webhook="https://host.example/next",
                ttl=5,
                type="mail",
                data=Raw(b'{"head":9,"data": [1.0, "\\u00e9"]}'),
                include_data=True,
                method="PUT",
                on_failure=Callback(webhook="http://127.0.0.1:9000/", at="2030-01-01T00:00:00Z"),
            ),
            on_failure=Callback(webhook="http://127.0.0.1:9000/undo"),
        ),
    ),
    "2-unknown-in-callback": Record(
        *(DUE_MS, "http://127.0.0.1:9000/", 60, None, b'{"n":1}'), "on_failure.on_success.later"
    ),
    "2-unknown": Record(DUE_MS, "http://127.0.0.1:9000/", 60, None, b'{"n":1}', "later"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_record_of_an_older_version_is_read(name: str) -> None:
    assert read_record((FOLDER / name).read_bytes()) == SAMPLES[name]


SEALED_FOR, SEALED_WITH = "xPynG8TE_wQjDQmPDXLSLA", b"a" * 32
"""The task, and the DATA_KEY, of the sealed samples."""


@pytest.mark.parametrize("name", SAMPLES)
def test_a_record_that_an_older_version_sealed_is_read_and_sealed_anew(name: str) -> None:
    sealed, vault = (FOLDER.parent / "sealed/records" / name).read_bytes(), Vault([b"b" * 32, SEALED_WITH])
    assert read_record(sealed).unknown == SEAL
    for stored in (sealed, vault.resealed(SEALED_FOR, sealed)[0]):
        assert vault.read_record(SEALED_FOR, stored) == SAMPLES[name]


def test_each_format_has_its_samples() -> None:
    assert sorted(file.name for file in FOLDER.iterdir()) == sorted(SAMPLES)
    assert {int(name.partition("-")[0]) for name in SAMPLES} == set(range(1, RECORD_FORMAT + 1))


ANSWERED = Attempt("answered 503", 12, 503)

FAILURES = {
    "1-last": [ANSWERED],
    "2-attempts": [
        msgspec.structs.replace(
            ANSWERED,
            due=DUE_MS,
            began=DUE_MS + 2,
            again=DUE_MS + 60_000,
            worker="host-7-a1b2",
            answer="come back later",
        ),
        Attempt("answered 500", 3, 500, answer_base64="/wA="),
        Attempt(
            *("no answer within 10 s", 10_001, None, DUE_MS + 60_000, DUE_MS + 60_007, DUE_MS + 120_008, "host-7-a1b2")
        ),
    ],
    "3-phases": [
        Attempt(
            *("answered 503", 42, 503, DUE_MS, DUE_MS + 2),
            worker="host-7-a1b2",
            lookup_ms=5,
            connect_ms=7,
            first_byte_ms=30,
        )
    ],
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_of_an_older_version_is_read(name: str) -> None:
    assert read_failed((FOLDER.parent / "failures" / name).read_bytes()) == FAILURES[name]


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_that_an_older_version_sealed_is_read_and_sealed_anew(name: str) -> None:
    sealed, vault = (FOLDER.parent / "sealed/failures" / name).read_bytes(), Vault([b"b" * 32, SEALED_WITH])
    assert read_failed(sealed) == []
    for stored in (sealed, vault.resealed_failure(SEALED_FOR, sealed)[0]):
        assert read_failed(vault.open_failure(SEALED_FOR, stored)) == FAILURES[name]


SUMMARIES = {
    "1-delivered": Summary("delivered", 2, DUE_MS, 12, 204, "mail", DUE_MS + 377),
    "1-cancelled": Summary("cancelled", 0, DUE_MS + 100_000, ended=DUE_MS + 377),
    "2-expired": Summary("expired", 3, DUE_MS, 4, 503, ended=DUE_MS + 60_000),
    "2-ended": Summary("ended", 0, DUE_MS, ended=DUE_MS + 60_000, progress=Progress(3, 1, "xPynG8TE_wQjDQmPDXLSLA")),
}


@pytest.mark.parametrize("name", SUMMARIES)
def test_a_summary_of_an_older_version_is_read(name: str) -> None:
    assert read_summary((FOLDER.parent / "summaries" / name).read_bytes()) == SUMMARIES[name]


def test_each_sample_is_read() -> None:
    folders: dict[str, Iterable[str]] = {
        "failures": FAILURES,
        "summaries": SUMMARIES,
        "sealed/records": SAMPLES,
        "sealed/failures": FAILURES,
    }
    for folder, names in folders.items():
        assert sorted(file.name for file in (FOLDER.parent / folder).iterdir()) == sorted(names)
