"""Pages of docs/howto: their blocks, what is run of them, and whether an answer is as a page shows it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "docs/howto"
ANYTHING = "…"


@dataclass
class Block:
    """A fenced block: what it is marked as, and its text."""

    kind: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in their order."""
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [Block(one[1], one[2], page.count("\n", 0, one.start()) + 1) for one in found]


def steps(page: str) -> Iterator[tuple[Block, Block | None]]:
    """What is run or awaited, in its order, with what it must print."""
    shown = blocks(page)
    for block, behind in zip(shown, [*shown[1:], None], strict=True):
        if block.kind in ("sh", "http"):
            yield block, behind if behind and behind.kind in ("json", "text") and block.kind == "sh" else None


def start_variables(page: str) -> dict[str, str]:
    """The settings with which the page starts the service."""
    for block in blocks(page):
        command = block.text.split()
        if block.kind == "console" and command[-1:] == ["redis-scheduler"]:
            return dict(word.split("=", 1) for word in command[:-1])
    return {}


def only_reads(block: Block) -> bool:
    return not re.search(r" -(d|X|-data\S*|-request) |redis-scheduler", block.text)


def answers(printed: str) -> list[Any]:
    """The JSON of each answer printed; nothing if there is anything else among it."""
    try:
        return [json.loads(line) for line in printed.splitlines() if line]
    except ValueError:
        return []


def expected(shown: str) -> list[Any]:
    """The answers that a block shows: each may take several lines; a bare … is anything."""
    text = re.sub(r'"(?:\\.|[^"\\])*"|…', lambda one: f'"{ANYTHING}"' if one[0] == ANYTHING else one[0], shown)
    text = re.sub(rf',\s*"{ANYTHING}"\s*}}', "}", text)
    decoder, found = json.JSONDecoder(), []
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


def is_as_shown(value: Any, shown: Any) -> bool:
    """Whether a value has what is shown of it."""
    match shown:
        case str():
            return shown == ANYTHING or (isinstance(value, str) and text_is_as_shown(value, shown))
        case dict():
            return isinstance(value, dict) and all(
                name == ANYTHING or (name in value and is_as_shown(value[name], wanted))
                for name, wanted in shown.items()
            )
        case [*first, "…"]:
            return isinstance(value, list) and len(value) >= len(first) and all(map(is_as_shown, value, first))
        case list():
            return isinstance(value, list) and len(value) == len(shown) and all(map(is_as_shown, value, shown))
        case _:
            return type(value) is type(shown) and bool(value == shown)


def text_is_as_shown(text: str, shown: str) -> bool:
    return bool(re.fullmatch(".*".join(map(re.escape, shown.split(ANYTHING))), text, re.DOTALL))


def prints_as_shown(printed: str, shown: Block) -> bool:
    """Whether what was printed is what the block behind shows."""
    if shown.kind == "text":
        lines, wanted = printed.strip().splitlines(), shown.text.strip().splitlines()
        return len(lines) == len(wanted) and all(map(text_is_as_shown, lines, wanted))
    values, wanted_values = answers(printed), expected(shown.text)
    return len(values) == len(wanted_values) and all(map(is_as_shown, values, wanted_values))


def has_request(received: str, shown: str) -> bool:
    """Whether the receiver printed a request that has what is shown of it."""
    return any(_is_request(request, shown) for request in received.split("----\n")[1:])


def _is_request(request: str, shown: str) -> bool:
    head, _, body = request.partition("\n\n")
    wanted_head, _, wanted_body = shown.partition("\n\n")
    lines = [line.rstrip() for line in head.splitlines()]
    first, *headers = wanted_head.splitlines()
    return (
        text_is_as_shown(lines[0], first)
        and all(any(text_is_as_shown(line.casefold(), header.casefold()) for line in lines[1:]) for header in headers)
        and (not wanted_body.strip() or text_is_as_shown(body.strip(), wanted_body.strip()))
    )
