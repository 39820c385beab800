"""What is sealed opens for its task alone, with its key alone, as it was."""

import os

import msgspec
import pytest

from redis_scheduler.store.vault import UNKNOWN_FAILURE, NotSealed, Vault
from redis_scheduler.task.failure import FOREIGN_FAILURE
from redis_scheduler.task.label import index_of
from redis_scheduler.task.listing import Listing, listing_of
from redis_scheduler.task.options import NONE, Options
from redis_scheduler.task.record import SEAL, UNREADABLE, read_record, record_tail
from redis_scheduler.task.repeat import Repeat

FRONT, KEY = b'{"due":1234567890123', "task-1"
OLD, NEW = os.urandom(32), os.urandom(32)
LABELLED = Options(headers={"x-a": "secret"}, labels={"order": "a=1"})
SERIES = Options(headers={"x-a": "secret"}, repeat=Repeat(cron="@daily"))
BOTH = Options(labels={"order": "a=1"}, repeat=Repeat(every=3600, tz="secret"))
FAILURE = b'{"error":"HTTP 500","elapsed_ms":1,"answer":"secret"}'


@pytest.mark.parametrize("type_name", [None, "mail"])
@pytest.mark.parametrize("options", [NONE, LABELLED, SERIES, BOTH])
@pytest.mark.parametrize("token", [None, "0123456789"])
@pytest.mark.parametrize("front", [FRONT, FRONT + b',"again":3'])
def test_a_record_opens_as_it_was(type_name: str | None, options: Options, token: str | None, front: bytes) -> None:
    tail = record_tail("http://localhost/secret", 5, type_name, b'{"secret":1}', options, token=token)
    listed = listing_of(type_name, options, token)
    stored = front + Vault([OLD]).seal_tail(KEY, tail, listed)
    assert b"secret" not in stored
    assert msgspec.json.decode(stored)["due"] == 1234567890123
    for keys in ([OLD], [NEW, OLD]):  # another process, and one after a rotation
        assert Vault(keys).opened(KEY, stored) == front + tail
        assert Vault(keys).read_record(KEY, stored) == read_record(front + tail)
    for found in (read_record(stored), Vault([NEW]).read_record(KEY, stored)):
        assert (found.unknown, found.webhook, found.due) == (SEAL, "", 1234567890123)
        assert listing_of(found.type, found.options, found.token) == listed


def test_each_byte_that_other_hands_change_is_noticed() -> None:
    # Of a length that base64 does not pad: padding has bits that mean nothing.
    tails = [record_tail("http://localhost/", 5, "mail", b"1" * length) for length in (1, 2, 3)]
    vault, tail = Vault([OLD]), next(tail for tail in tails if len(tail) % 3 == 0)
    stored = FRONT + vault.seal_tail(KEY, tail, "mail")
    assert vault.read_record("task-2", stored) is UNREADABLE
    for at in range(len(FRONT), len(stored)):
        changed = stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :]
        assert vault.read_record(KEY, changed) is UNREADABLE, changed
        with pytest.raises(NotSealed, match="other hands changed it"):
            Vault([NEW, OLD]).resealed(KEY, changed)


def test_data_that_looks_sealed_is_read_as_it_is() -> None:
    vault = Vault([OLD])
    sealed = vault.seal_tail(KEY, b',"webhook":"x"}', None).partition(b',"sealed":')[2][:-1]
    for data in (b'{"a":1,"sealed":%b}' % sealed, sealed, msgspec.json.encode(',"sealed":' + sealed.decode())):
        plain = FRONT + record_tail("http://localhost/", 5, None, data)
        assert vault.read_record(KEY, plain) == read_record(plain)
        assert read_record(plain).data == data


def test_a_seal_that_names_another_key_than_its_head_is_nobodys() -> None:
    """Else the task would be left to a worker with a key that none has."""
    sealed, other = (FRONT + Vault([key]).seal_tail(KEY, b',"webhook":"x"}', None) for key in (OLD, NEW))
    head, blob = sealed.partition(b',"sealed":')[0], other.partition(b',"sealed":')[2]
    for stored in (head + b',"sealed":' + blob, sealed.replace(b'"seal":"', b'"seal":"0')):
        assert Vault([OLD]).read_record(KEY, stored) is UNREADABLE


def test_nothing_is_sealed_twice_alike() -> None:
    vaults = [Vault([OLD]), Vault([OLD])]
    assert len({vault.seal_tail(KEY, b',"webhook":"x"}', None) for vault in vaults for _ in range(500)}) == 1_000


def test_a_failure_opens_as_it_was() -> None:
    vault = Vault([OLD])
    sealed = vault.seal_failure(KEY, b"3@1-1 " + FAILURE)
    assert sealed.startswith(b'3@1-1 {"sealed":"')
    assert b"secret" not in sealed
    kept = sealed.removeprefix(b"3@1-1 ")
    assert vault.open_failure(KEY, kept) == FAILURE
    assert vault.open_failure("task-2", kept) == bytes(FOREIGN_FAILURE)
    assert Vault([NEW]).open_failure(KEY, kept) == UNKNOWN_FAILURE
    for plain in (b"", b"3"):
        assert vault.seal_failure(KEY, plain) == plain
    assert [vault.open_failure(KEY, plain) for plain in (None, FAILURE)] == [None, FAILURE]
    refusing = Vault([OLD], refuses_plain=True)
    assert [refusing.open_failure(KEY, plain) for plain in (None, FAILURE)] == [None, bytes(FOREIGN_FAILURE)]
    assert refusing.open_failure(KEY, kept) == FAILURE


@pytest.mark.parametrize("listed", [None, "mail", (index_of("a=1"),), ("mail", index_of("a=1"))])
def test_what_is_not_sealed_is_read_unless_it_is_refused(listed: Listing) -> None:
    plain = FRONT + record_tail("http://localhost/", 5, None, b"1")
    assert Vault([OLD]).read_record(KEY, plain) == read_record(plain)
    assert Vault([OLD], refuses_plain=True).read_record(KEY, plain) is UNREADABLE
    vault = Vault([NEW, OLD], refuses_plain=True)
    sealed = FRONT + Vault([OLD]).seal_tail(KEY, plain.removeprefix(FRONT), listed)
    assert vault.read_record(KEY, sealed) == read_record(plain)
    by_the_first = FRONT + vault.seal_tail(KEY, plain.removeprefix(FRONT), listed)
    assert Vault([NEW]).read_record(KEY, by_the_first) == read_record(plain)
