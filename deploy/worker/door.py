"""Requests by HTTP, on this machine alone: what is sent is put into the spool unread, and the answer is its number.

| | |
| --- | --- |
| ``POST /requests``, ``application/zip`` | a study with its request.json or request.dcm |
| ``POST /requests?source=NAME``, ``application/json`` | a request for a series that one of the site's sources holds |
| ``GET /requests/NUMBER`` | whether it is waiting, done or dead, for whoever asked |

Who asks has a token of the site's, as ``Authorization: Bearer TOKEN``. nginx stands in front, with TLS and time limits.
"""

from __future__ import annotations

import hmac
import shutil
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.request import LARGEST
from deploy.serving import make_server
from deploy.worker.config import Config
from deploy.worker.guard import MOST_BYTES, UPLOAD
from deploy.worker.spool import Spool

STATES = {"work": "waiting", "done": "done", "dead": "dead"}

KINDS = {"application/zip": (UPLOAD, MOST_BYTES), "application/json": ("request.json", LARGEST)}
"""By content type, the file in the spool, and its greatest length in bytes."""


class Door:
    """Answers calls.

    Args:
        config: of the site; ``tokens`` says who may ask.
    """

    def __init__(self, config: Config) -> None:
        self.config, self.spool = config, Spool(config.spool)
        self.tokens = {name: path.read_text(encoding="utf-8").strip().encode() for name, path in config.tokens.items()}

    async def ask(self, request: Request) -> Response:
        """Puts a request into the spool."""
        by, source = self._asker(request), request.query_params.get("source")
        kind = request.headers.get("content-type", "").partition(";")[0]
        if kind not in KINDS:
            raise HTTPException(415, f"Expected {' or '.join(KINDS)}.")
        if (kind == "application/json") != (source is not None) or (source and source not in self.config.sources):
            raise HTTPException(422, "A request alone names one of the site's sources, and a zip names none.")
        name, most = KINDS[kind]
        if shutil.disk_usage(self.spool.root).free < self.config.least_free_mb * 2**20 + _length(request, most):
            raise HTTPException(507, "No room. Try again later.")
        with self.spool.staging() as folder:
            await _save(request, folder / name, most)
            told: dict[str, Any] = {"fetch": {"source": source}} if source else {}
            number = self.spool.put(folder, by=by, **told)
        return JSONResponse({"number": number, "state": "waiting"}, 202)

    async def state(self, request: Request) -> Response:
        """Whether a request is waiting, done or dead, for whoever asked for it."""
        by, number = self._asker(request), request.path_params["number"]
        found = await run_in_threadpool(self.spool.find, number)
        if found is None or found[1]["by"] != by:
            raise HTTPException(404, "No request of this number.")
        return JSONResponse({"number": number, "state": STATES[found[0]]})

    def _asker(self, request: Request) -> str:
        """Who has the token of a call."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
        found = [name for name, token in self.tokens.items() if token and hmac.compare_digest(token, given)]
        if not found:
            raise HTTPException(401, "No token of this site.")
        return f"door {found[0]}"


def make_app(config: Config) -> Starlette:
    """The door of a site's worker, as an application that a server runs."""
    door = Door(config)
    ask, state = Route("/requests", door.ask, methods=["POST"]), Route("/requests/{number}", door.state)
    return Starlette(routes=[ask, state])


def _length(request: Request, most: int) -> int:
    """Bytes that a call says it has, refused where they are too many; 0 where it does not say."""
    told = request.headers.get("content-length", "0")
    if not told.isdecimal() or int(told) > most:
        raise HTTPException(413, f"Expected {most} bytes or fewer.")
    return int(told)


async def _save(request: Request, path: Path, most: int) -> None:
    """Writes the body of a call to a file."""
    size = 0
    with path.open("wb") as file:
        async for part in request.stream():
            size += file.write(part)
            if size > most:
                raise HTTPException(413, f"Expected {most} bytes or fewer.")


def serve(config: Config, port: int) -> None:
    """Answers on the loopback address until it is stopped; no address or query is logged."""
    make_server(make_app(config), "127.0.0.1", port, limit_concurrency=20).run()
