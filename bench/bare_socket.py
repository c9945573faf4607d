"""Bare websockets under uvicorn: each is accepted and listened to, and one loop sends a text to all of them."""

from typing import Any, Final

from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

_open: Final[set[ASGISendCallable]] = set()


async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """`/live` is a websocket; POST a text to `/broadcast` and it is sent to every one before the answer."""
    if scope["type"] == "websocket":
        await _listen(receive, send)
    elif scope["type"] == "http":
        body = await _body(receive)
        if scope["method"] == "POST":
            for socket in list(_open):
                await socket({"type": "websocket.send", "bytes": None, "text": body.decode()})
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")], "trailers": False}
        )
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _listen(receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    await receive()
    await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
    _open.add(send)
    try:
        while (await receive())["type"] != "websocket.disconnect":
            pass
    finally:
        _open.discard(send)


async def _body(receive: ASGIReceiveCallable) -> bytes:
    body, more = b"", True
    while more:
        message: Any = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body
