"""Our own pages and the files that they and everyone's pages load."""

from typing import Final

from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from app.api.http import WrongMethod
from app.api.widget import PINNED, STATIC, WIDGET, is_of_a_version

_AGAIN_EACH_TIME: Final = "no-cache"
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": _AGAIN_EACH_TIME,
    "Referrer-Policy": "no-referrer",
}


class Page:
    """One of our pages, which may load only what is ours."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the page."""
        if scope["method"] not in ("GET", "HEAD"):
            raise WrongMethod(b"GET, HEAD")
        response = FileResponse(STATIC / self._name, media_type="text/html", headers=_PAGE_HEADERS)
        await response(scope, receive, send)


class Files(StaticFiles):
    """`/static`, which any page may load: a module script is fetched across origins only where it is allowed."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """One file, checked again each time by its ETag; the widget of one version is kept for ever."""
        of_a_version = is_of_a_version(path)
        response = await super().get_response(WIDGET if of_a_version else path, scope)
        if of_a_version and path != PINNED:
            # The server was upgraded since the page was written: without an integrity hash it goes on.
            response = RedirectResponse(f"/static/{WIDGET}", 307)
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        response.headers["Cache-Control"] = _FOR_EVER if path == PINNED else _AGAIN_EACH_TIME
        if path.endswith(".d.ts") and "content-type" in response.headers:
            response.headers["Content-Type"] = "text/plain; charset=utf-8"  # by its name it would be a video
        if path.endswith(".html"):
            response.headers.update(_PAGE_HEADERS)
        return response
