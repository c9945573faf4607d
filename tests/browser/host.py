"""A product's own site, on another origin than the server: pages with a strict CSP, and its token URL."""

import base64
import hashlib
import secrets
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from serving import ServerProcess

STATIC = Path(__file__).parents[2] / "static"
WIDGET = STATIC / "widget.js"


class Site:
    """An HTTP server in a thread; what it serves is put there by the tests."""

    def __init__(self) -> None:
        self._served: dict[str, Callable[[], tuple[str, str, str]]] = {}
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()
        self.origin = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def page(self, server: ServerProcess, body: str) -> str:
        """A page that may load one script, of the server's, by its hash, and speak to the server alone."""
        digest = base64.b64encode(hashlib.sha384(WIDGET.read_bytes()).digest()).decode()
        script = f'<script type="module" src="{server.address}/static/widget.js" integrity="sha384-{digest}"></script>'
        csp = (
            f"default-src 'none'; script-src {server.address}; style-src 'none'; img-src data:; "
            f"connect-src 'self' {server.address} ws://127.0.0.1:{server.port}; require-trusted-types-for 'script'"
        )
        icon = '<link rel="icon" href="data:,">'
        html = f'<!doctype html><html lang="en"><title>Host</title>{icon}{script}<h1>Host</h1>{body}</html>'
        return self._serve(lambda: ("text/html", html, csp))

    def token_url(self, mint: Callable[[], str]) -> str:
        """An address that answers with a fresh token each time."""
        return self._serve(lambda: ("application/json", f'{{"token": "{mint()}"}}', ""))

    def _serve(self, answer: Callable[[], tuple[str, str, str]]) -> str:
        path = f"/{secrets.token_hex(8)}"
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
                kind, text, csp = answer()
                body = text.encode()
                self.send_response(200)
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
