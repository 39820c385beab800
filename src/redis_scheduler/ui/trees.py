"""JSON as a tree that opens and closes: as text in elements, never as markup."""

from typing import Any

import msgspec
from markupsafe import Markup, escape

TREE_BYTES = 262_144
"""What is larger is shown as text, and its end is cut off."""

NODES_MOST = 2_000
TEXT_MOST = 4_000


def tree_of(content: bytes) -> Markup:
    """Return JSON as a tree; what is none, or too large for one, as text."""
    if len(content) <= TREE_BYTES:
        try:
            return _Tree().of(msgspec.json.decode(content))
        except (ValueError, RecursionError):
            pass
    return text_of(content.decode(errors="replace"))


def text_of(text: str) -> Markup:
    """Return a text as it is, with its end cut off."""
    shown = text if len(text) <= TEXT_MOST else f"{text[:TEXT_MOST]}… ({len(text):,} characters)"
    return Markup('<pre class="text">{}</pre>').format(shown)


class _Tree:
    def __init__(self) -> None:
        self._nodes = 0

    def of(self, value: Any) -> Markup:
        self._nodes += 1
        if isinstance(value, dict):
            return self._many("{", [(str(name), one) for name, one in value.items()], "}")
        if isinstance(value, list):
            return self._many("[", [(str(index), one) for index, one in enumerate(value)], "]")
        kind = "string" if isinstance(value, str) else "plain"
        text = msgspec.json.encode(value).decode()
        if len(text) > TEXT_MOST:
            text = text[:TEXT_MOST] + "…"
        return Markup('<code class="{}">{}</code>').format(kind, text)

    def _many(self, begin: str, members: list[tuple[str, Any]], end: str) -> Markup:
        if not members:
            return Markup("<code>{}</code>").format(begin + end)
        shown = []
        for name, one in members:
            if self._nodes >= NODES_MOST:
                shown.append(Markup("<li>…</li>"))
                break
            shown.append(Markup("<li><b>{}</b> {}</li>").format(name, self.of(one)))
        head = escape(f"{begin} {len(members):,} {end}")
        return Markup("<details open><summary>{}</summary><ul>{}</ul></details>").format(head, Markup("").join(shown))
