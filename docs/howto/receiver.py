"""A receiver to try things with: prints each request, and answers as its path says.

    python3 docs/howto/receiver.py          on port 9000
    /                                       is answered by 204
    /status/503                             by that status
    /status/503,503,200                     by the first status, then the next, then always the last
    /status/429?Retry-After=2               with that header, too
    /status/200?answer=hello                with that body
"""

import sys
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

asked: Counter[str] = Counter()


class Receiver(BaseHTTPRequestHandler):
    """Answers each method alike."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """Print the request, and answer it."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        head = f"{self.command} {self.path}\n{self.headers}".rstrip()
        print(f"----\n{head}\n\n{body.decode(errors='replace')}", flush=True)

        path, headers = urlsplit(self.path), dict(parse_qsl(urlsplit(self.path).query))
        statuses = path.path.removeprefix("/status/").split(",") if path.path.startswith("/status/") else ["204"]
        status = statuses[min(asked[self.path], len(statuses) - 1)]
        asked[self.path] += 1
        answer = headers.pop("answer", "").encode()
        self.send_response(int(status))
        for name, value in headers.items():
            self.send_header(name, value)
        if status != "204":
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        """Say nothing more."""


with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 9000), Receiver) as server:
    if server.server_port != 9000:
        print(server.server_port, flush=True)
    server.serve_forever()
