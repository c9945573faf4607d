"""Our own pages and the files that they and everyone's pages load."""

from pathlib import Path
from typing import Final

from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from app.api.http import WrongMethod

_HERE: Final = Path(__file__).resolve().parent.parent
STATIC: Final = next(folder for folder in (_HERE / "static", _HERE.parent / "static") if folder.is_dir())
"""`static/`: inside of the package where it is installed, beside it in a checkout."""
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
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
        """One file, checked again each time by its ETag."""
        response = await super().get_response(path, scope)
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        response.headers["Cache-Control"] = "no-cache"
        if path.endswith(".html"):
            response.headers.update(_PAGE_HEADERS)
        return response
