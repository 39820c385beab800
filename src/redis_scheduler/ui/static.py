"""The files that browsers get: read once, and named by a digest of all, so that they may be kept for ever."""

from hashlib import sha256
from pathlib import Path

from redis_scheduler.ui.answers import NO_STORE, PageAnswer, PageRefused

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}


class Static:
    """The files of the folder `static`."""

    def __init__(self) -> None:
        folder = Path(__file__).parent / "static"
        self._files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in _TYPES}
        self.mark = sha256(b"\0".join(self._files.values())).hexdigest()[:16]
        """Stands in their addresses."""

    def answer(self, mark: str, name: str) -> PageAnswer:
        """Return a file. Raises PageRefused for one that is not there."""
        if name not in self._files:
            raise PageRefused(404, "There is no such file")
        headers = _FOREVER if mark == self.mark else NO_STORE  # of another version: what there is now
        return PageAnswer(self._files[name], headers=headers, content_type=_TYPES[Path(name).suffix])
