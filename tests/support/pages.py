"""A browser without its eyes: asks for pages of the dashboard as one does, and keeps its cookies."""

import re
from collections.abc import Mapping
from html import unescape
from http.cookies import SimpleCookie
from typing import NamedTuple

import aiohttp

OWN = {"Sec-Fetch-Site": "same-origin"}
"""What a browser says of a request that a page of the same origin makes."""


class Page(NamedTuple):
    """What came."""

    status: int
    headers: Mapping[str, str]
    html: str

    @property
    def hidden(self) -> dict[str, str]:
        """The hidden fields of its forms."""
        found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', self.html)
        return {name: unescape(value) for name, value in found}

    @property
    def text(self) -> str:
        """What can be read of it."""
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", self.html)).split())


class Browser:
    """Keeps the cookies that it is given."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self.cookies: dict[str, str] = {}
        self.set_cookie = ""

    async def get(self, path: str, **headers: str) -> Page:
        """Ask for a page."""
        return await self._send("GET", path, None, headers)

    async def post(self, path: str, fields: dict[str, str] | None = None, **headers: str) -> Page:
        """Send a form."""
        return await self._send("POST", path, fields or {}, headers or OWN)

    async def sign_in(self, token: str, wanted: str = "") -> Page:
        """Sign in by a token."""
        return await self.post("/ui/login", {"token": token, "next": wanted})

    async def _send(self, method: str, path: str, fields: dict[str, str] | None, headers: Mapping[str, str]) -> Page:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            given["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with self._session.request(
            method, self._url + path, data=fields, headers=given, allow_redirects=False
        ) as response:
            self.set_cookie = response.headers.get("Set-Cookie", "")
            for name, one in SimpleCookie(self.set_cookie).items():
                self.cookies[name] = one.value
            return Page(response.status, response.headers, (await response.read()).decode())
