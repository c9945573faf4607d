"""The FastAPI snippet, with a way to sign in, on the socket that is handed down as a file descriptor."""

import socket
import sys

import uvicorn
from fastapi import Request
from fastapi_app import app


@app.get("/sign-in", status_code=204)
async def sign_in(request: Request, customer: str) -> None:
    request.session["user_id"] = customer


uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
