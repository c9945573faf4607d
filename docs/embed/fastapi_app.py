import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from urllib.parse import quote

import httpx
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.middleware.sessions import SessionMiddleware

log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    key = {"Authorization": f"Bearer {os.environ['CHARGLY_API_KEY']}"}
    async with httpx.AsyncClient(base_url=os.environ["CHARGLY_URL"], headers=key, timeout=5) as app.state.chargly:
        yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(SessionMiddleware, secret_key=os.environ["SESSION_SECRET"])


def signed_in(request: Request) -> str | None:
    """Yours: the id of whoever is signed in, by your own session, and never by what the browser sends."""
    return request.session.get("user_id")


@app.get("/chargly-token")
async def chargly_token(request: Request, customer: Annotated[str | None, Depends(signed_in)]) -> JSONResponse:
    if customer is None:
        return answer({"error": "Sign in first."}, 401)
    chargly: httpx.AsyncClient = request.app.state.chargly
    try:
        made = await chargly.post(f"/v1/wallets/{quote(customer, safe='')}/tokens")
        made.raise_for_status()
    except httpx.HTTPError:
        log.exception("Chargly made no token")
        return answer({"error": "Credits are away for a moment."}, 502)
    return answer({"token": made.json()["token"]})


def answer(body: dict[str, str], status: int = 200) -> JSONResponse:
    return JSONResponse(body, status, headers={"Cache-Control": "no-store"})
