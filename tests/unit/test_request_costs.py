"""No body holds up the service: how deep it may be, and what its faults cost to find."""

import asyncio
import contextlib
import json
import math
import re
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redis_scheduler.api import reading
from redis_scheduler.api.requests import schedule_request
from redis_scheduler.errors import InvalidRequest
from tests.support.pauses import without_long_pauses


def deepest(value: object) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(deepest, value.values() if isinstance(value, dict) else value), default=0)
    return 0


TEXTS = st.text(st.sampled_from('[]{}"\\\n,:a\u00e9'), max_size=8)
DEEP_VALUES = st.recursive(
    TEXTS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=30
)


@given(value=DEEP_VALUES, limit=st.integers(0, 6), size=st.integers(2, 20), ascii_only=st.booleans())
def test_nesting_is_what_it_is_wherever_a_body_is_cut(value: object, limit: int, size: int, ascii_only: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "SLICE_BYTES", size)
        patch.setattr(reading, "BLOCK_BYTES", 2)
        body = json.dumps(value, ensure_ascii=ascii_only).encode()
        try:
            asyncio.run(reading.check_nesting(body, limit))
            is_too_deep = False
        except InvalidRequest:
            is_too_deep = True
    assert is_too_deep == (deepest(value) > limit)


@pytest.mark.parametrize(
    "data",
    [
        b'"' + b"[" * 1_000_000 + b'"',
        b'["' + b"[" * 1_000_000 + b'"]',
        b'["' + b"\\\\" * 500_000 + b'",' + b"[]," * 200 + b"1]",
        b"[" + b'"a",' * 250_000 + b"[]," * 200 + b"1]",
        b"[" + b"[]," * 333_000 + b"1]",
        b"[" + b"[" * 100 + b"[]," * 300_000 + b"1" + b"]" * 100 + b"]",
        b"[" + (b"[" * 120 + b"]" * 120 + b",") * 4_000 + b"1]",
        b'["",' + b'[["["],["["]],' * 70_000 + b"1]",
    ],
    ids=["one text", "a text in a list", "escapes", "texts", "empty lists", "empty lists far in", "deep lists", "both"],
)
async def test_no_body_holds_up_the_service_by_its_brackets(data: bytes) -> None:
    """It took 0.65 s for a megabyte of them in a text."""
    body = b'{"webhook":"http://h/","ttl":1,"data":' + data + b"}"
    async with without_long_pauses():
        began = time.thread_time()
        await reading.check_nesting(body)
        took_s = time.thread_time() - began
    assert took_s < 0.4


MEGABYTE = 1_000_000
COSTLY = {
    "halves of pairs": b'{"data":"' + b"\\ud83d" * (MEGABYTE // 6) + b'","ttl":1,"webhook":"http://h/"}',
    "halves of pairs, apart": b'{"data":"' + b"\\uDc00x" * (MEGABYTE // 7) + b'","ttl":1,"webhook":"http://h/"}',
    "pairs and a half": b'{"data":"'
    + b"\\ud83d\\ude00" * (MEGABYTE // 12)
    + b'\\udddd","ttl":1,"webhook":"http://h/"}',
    "halves in a webhook": b'{"webhook":"' + b"\\ud83d" * (MEGABYTE // 6) + b'","ttl":1}',
    "escapes in a webhook": b'{"webhook":"' + b"\\u00e9" * (MEGABYTE // 6) + b'","ttl":1}',
    "a long webhook": b'{"webhook":"http://h/' + b"a" * MEGABYTE + b'","ttl":1}',
    "quotes in a webhook": b'{"webhook":"http://h/' + b'\\"' * (MEGABYTE // 2) + b'","ttl":1}',
    "halves in a name": b'{"' + b"\\ud83d" * (MEGABYTE // 6) + b'":1}',
    "a long name": b'{"' + b"A_" * (MEGABYTE // 2) + b'":1}',
    "many members": b"{" + b",".join(b'"a%d":1' % number for number in range(MEGABYTE // 10)) + b"}",
    "one member many times": b"{" + b'"ttl":1,' * (MEGABYTE // 8) + b'"ttl":1}',
    "members of data": b'{"ttl":"","data":{' + b'"":1,' * (MEGABYTE // 5) + b'"":1}}',
    "a long whole number": b'{"webhook":"http://h/","ttl":' + b"9" * MEGABYTE + b"}",
    "a long fraction": b'{"webhook":"http://h/","ttl":1.' + b"7" * MEGABYTE + b"}",
    "a small number with a long tail": b'{"webhook":"http://h/","ttl":0.' + b"0" * MEGABYTE + b"1}",
    "a long exponent": b'{"webhook":"http://h/","ttl":1e' + b"9" * MEGABYTE + b"}",
    "a long text for a ttl": b'{"webhook":"http://h/","ttl":"' + "é".encode() * (MEGABYTE // 2) + b'"}',
    "brackets without end": b'{"data":' + b"[" * MEGABYTE,
    "objects without end": b'{"data":' + b'{"":' * (MEGABYTE // 4),
    "spaces": b" " * MEGABYTE,
    "spaces between": b'{"ttl":' + b" \n" * (MEGABYTE // 2) + b"NaN}",
    "a text alone": b'"' + b"\\ud83d" * (MEGABYTE // 6) + b'"',
    "no UTF-8 at the end": b'{"data":"' + "é".encode() * (MEGABYTE // 2) + b'\xff"}',
    "a body cut off": b'{"webhook":"http://h/","ttl":1,"data":"' + b"\\ud83d" * (MEGABYTE // 6),
}


def share_of(step: Callable[[], object], another: Callable[[], object]) -> float:
    """Return the CPU time of a step as a share of another's; the quickest run of each counts. They run in turn, so that
    a busy moment meets both: three times where the share is clearly small, else ten."""
    quickest = [math.inf, math.inf]
    for run in range(10):
        for number, each in enumerate((step, another)):
            began = time.thread_time()
            with contextlib.suppress(InvalidRequest):
                each()
            quickest[number] = min(quickest[number], time.thread_time() - began)
        if run >= 2 and quickest[0] < quickest[1] / 2:
            break
    return quickest[0] / quickest[1]


@pytest.mark.parametrize("name", COSTLY)
def test_no_body_holds_up_the_service_by_its_faults(name: str) -> None:
    """A megabyte of halves of pairs took 68 ms, in which no other request was served: most of it by this
    replacement."""
    share = share_of(
        lambda: schedule_request(COSTLY[name]),
        lambda: re.sub(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}", rb"\\ufffd", COSTLY["halves of pairs"]),
    )
    assert share < 0.7
