"""A product's own site, on another origin than the server: pages with a strict CSP, and its token URL."""

import base64
import hashlib
import re
import secrets
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple, Protocol

import httpx

STATIC = Path(__file__).parents[2] / "static"
WIDGET = STATIC / "widget.js"


class Reached(Protocol):
    """Where pages find a server: itself, or what stands before it."""

    address: str
    port: int


class Answer(NamedTuple):
    text: str
    kind: str = "text/html"
    csp: str = ""
    status: int = 200


def digest(text: str | bytes, algorithm: str = "sha384") -> str:
    """As an `integrity` attribute or a policy's hash says it."""
    raw = text.encode() if isinstance(text, str) else text
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, raw).digest()).decode()}"


class Site:
    """An HTTP server in a thread; what it serves is put there by the tests."""

    def __init__(self) -> None:
        self._served: dict[str, Callable[[str], Answer]] = {}
        """By path; what makes an answer is handed the request's cookies."""
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()
        self.origin = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def page(self, server: Reached, body: str) -> str:
        """A page that may load one script, of the server's, by its hash, and speak to the server alone."""
        integrity = digest(WIDGET.read_bytes())
        script = f'<script type="module" src="{server.address}/static/widget.js" integrity="{integrity}"></script>'
        csp = f"{self._policy(server)}; script-src {server.address}"
        icon = '<link rel="icon" href="data:,">'
        html = f'<!doctype html><html lang="en"><title>Host</title>{icon}{script}<h1>Host</h1>{body}</html>'
        return self._serve(lambda _: Answer(html, csp=csp))

    def document(self, server: Reached, html: str) -> str:
        """A page as it stands, under a policy that lets in the scripts written in it, its own site's and the server's.

        An icon is its one addition: without any, a browser asks for one.
        """
        html = html.replace("</head>", '<link rel="icon" href="data:,"></head>', 1)
        written = re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL)
        hashes = " ".join(f"'{digest(script, 'sha256')}'" for script in filter(None, written))
        csp = f"{self._policy(server)}; script-src 'self' {server.address} {hashes}"
        return self._serve(lambda _: Answer(html, csp=csp))

    def script(self, text: str) -> str:
        return self._serve(lambda _: Answer(text, "text/javascript"))

    def token_url(self, mint: Callable[[], str], path: str | None = None) -> str:
        """An address that answers with a fresh token each time."""
        return self.answering(lambda: Answer(f'{{"token": "{mint()}"}}', "application/json"), path)

    def answering(self, answer: Callable[[], Answer], path: str | None = None) -> str:
        """An address whose answers are made as it is asked."""
        return self._serve(lambda _: answer(), path)

    def forward(self, path: str, address: str) -> str:
        """A path that another server answers, as a proxy in front of an app does it."""

        def ask(cookie: str) -> Answer:
            answer = httpx.get(f"{address}{path}", headers={"Cookie": cookie}, timeout=20, verify=False)
            return Answer(answer.text, answer.headers["Content-Type"].partition(";")[0], status=answer.status_code)

        return self._serve(ask, path)

    def _policy(self, server: Reached) -> str:
        return (
            "default-src 'none'; style-src 'none'; img-src data:; require-trusted-types-for 'script'; "
            f"connect-src 'self' {server.address} ws://127.0.0.1:{server.port}"
        )

    def _serve(self, answer: Callable[[str], Answer], path: str | None = None) -> str:
        path = path or f"/{secrets.token_hex(8)}"
        self._served[path] = answer
        return f"{self.origin}{path}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        served = self._served

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = served.get(self.path)
                if answer is None:
                    self.send_error(404)
                    return
                text, kind, csp, status = answer(self.headers.get("Cookie", ""))
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                if csp:
                    self.send_header("Content-Security-Policy", csp)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
