"""Answers are shown without harm, and without the secrets that were sent to who gave them."""

import html
from collections.abc import Callable
from urllib.parse import quote

import pytest

from redis_scheduler.delivery.echoes import excerpt, without_secrets


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"", ""),
        (b"plain", "plain"),
        ("ä 😀".encode(), "ä 😀"),
        (b"a\r\n\t b\x0b\x0cc\xc2\xa0d", "a b c d"),
        (b"\x1b[2J\x00\x7f", "\ufffd[2J\ufffd\ufffd"),
        ("\x9b31m\u202e\u200b".encode(), "\ufffd31m\ufffd\ufffd"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"x" * 500, "x" * 200),
        ("😀".encode() * 500, "😀" * 200),
        (b" " * 4_000 + b"late", "late"),
        (b"<b>a/b&amp;c</b> a/b&c a\\/b&c a%2Fb%26c a/b", "<b>***</b> *** *** *** a/b"),
        (b"x" * 195 + b"a/b&c", "x" * 195 + "***"),
        (b"x" * 198 + b"a/b&c", "x" * 198 + "**"),
    ],
)
def test_what_a_receiver_sent_is_shown_without_harm(content: bytes, shown: str) -> None:
    assert excerpt(content, "a/b&c") == shown
    assert shown.isprintable()


@pytest.mark.parametrize(
    "form", ["a/b&cü<dd>eé", "a\\/b&cü<dd>eé", "a/b&amp;cü&lt;dd&gt;eé", "a%2Fb%26c%C3%BC%3Cdd%3Ee%C3%A9"]
)
@pytest.mark.parametrize("before", [b" " * 1_018, b"a/b", b"its a/", b""])
def test_a_secret_within_which_a_text_was_cut_is_hidden(before: bytes, form: str) -> None:
    for cut in range(len(form.encode()) + 1):
        shown = excerpt(before + form.encode()[:cut], "a/b&cü<dd>eé")
        assert shown.removeprefix(before.decode().strip()) in ("", form[:1], form[:2], form[:3], "***")


def test_what_a_text_ends_with_is_kept_where_no_secret_begins_so() -> None:
    assert excerpt(b"no room", "mister") == "no room"
    assert excerpt(b"mister no ", "misters") == "mister no"


def test_a_secret_longer_than_what_is_kept_is_hidden_too() -> None:
    assert excerpt(b"its " + b"0123456789" * 100, "0123456789" * 200) == "its ***"


def test_without_a_secret_nothing_is_hidden() -> None:
    assert excerpt(b"ab", "") == "ab"


SECRET = 'sup3r/Key+="&é-Z'

ESCAPED: dict[str, Callable[[str], str]] = {
    "URL": lambda character: "".join(f"%{byte:02x}" for byte in character.encode()),
    "URL, large digits": lambda character: "".join(f"%{byte:02X}" for byte in character.encode()),
    "URL of Latin-1": lambda character: f"%{ord(character):02X}",
    "JSON": lambda character: f"\\u{ord(character):04x}",
    "JSON, large digits": lambda character: f"\\u{ord(character):04X}",
    "Python": lambda character: f"\\x{ord(character):02x}",
    "HTML": lambda character: f"&#{ord(character)};",
    "HTML, open": lambda character: f"&#{ord(character)}",
    "HTML, long": lambda character: f"&#{ord(character):07};",
    "HTML, hexadecimal": lambda character: f"&#x{ord(character):x};",
    "HTML, large digits": lambda character: f"&#X{ord(character):X};",
    "HTML by names": lambda character: {
        "/": "&sol;",
        "+": "&plus;",
        "=": "&equals;",
        '"': "&quot;",
        "&": "&amp;",
        "é": "&eacute;",
    }.get(character, character),
    "a mixture": lambda character: character if character in "sp3" else f"%{ord(character):02x}",
}


@pytest.mark.parametrize("changed", [str, str.upper, str.lower])
@pytest.mark.parametrize("escape", ESCAPED.values(), ids=ESCAPED)
def test_a_secret_whose_every_character_is_escaped_is_hidden(
    escape: Callable[[str], str], changed: Callable[[str], str]
) -> None:
    echo = "".join(map(escape, changed(SECRET))).encode()
    assert without_secrets(b"50% & <" + echo + b">\\n", (SECRET,)) == b"50% & <***>\\n"
    assert without_secrets(b"%41" + echo + b"%41" + echo, ("other", SECRET)) == b"%41***%41***"


@pytest.mark.parametrize("escape", ESCAPED.values(), ids=ESCAPED)
def test_a_secret_that_is_cut_off_in_an_escape_is_hidden(escape: Callable[[str], str]) -> None:
    escaped = [escape(character) for character in SECRET]
    echo, first = "".join(escaped).encode(), "".join(escaped[:4]).encode()
    for cut in range(len(echo) + 1):
        shown = without_secrets(b"its " + echo[:cut], (SECRET,))
        if cut != len(first):  # a number without its semicolon may go on there
            assert shown == (b"its ***" if cut > len(first) else b"its " + echo[:cut])


@pytest.mark.parametrize("secret", ["a%41b", "a&amp;b", "a\\u0041b", "%%%%", "\\\\"])
def test_a_secret_that_looks_like_an_escape_is_hidden(secret: str) -> None:
    for echo in (secret, secret.upper(), quote(secret, safe=""), html.escape(secret)):
        assert without_secrets(f"<{echo}>".encode(), (secret,)) == b"<***>"


def test_a_secret_is_hidden_as_it_was_sent_in_latin_1() -> None:
    assert without_secrets("<naïve> <NAÏVE>".encode("latin-1"), ("naïve",)) == b"<***> <***>"


def test_secrets_that_share_some_characters_are_hidden_both() -> None:
    assert without_secrets(b"<abcdefgh> <abc%64>", ("abcd", "cdefgh", "")) == b"<***> <***>"


def test_what_is_no_secret_stays_as_it_was() -> None:
    for answer in (
        b"%",
        b"100 %",
        b"\\",
        b"&",
        b"AT&T",
        b"%zz\\u12&nosuch;&#99999999;\xff",
        b"",
        "secret".encode("utf-16"),
    ):
        assert without_secrets(answer, ("secret",)) == answer
