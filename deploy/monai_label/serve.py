"""Serves the app to clients of MONAI Label: ``python -m deploy.monai_label.serve STUDIES``.

These are the addresses of MONAI Label's protocol that a follow-up needs. Its own server has many more, takes names of
files and settings out of a request, writes records into its log, and answers pages of any origin.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from urllib3.fields import RequestField
from urllib3.filepost import encode_multipart_formdata

from deploy.monai_label.asked import IMAGE_ID, LARGEST, AskedError, parse
from deploy.page.reading import GIVEN, guarded
from deploy.page.refusal import Refusal
from deploy.page.uploads import receive
from deploy.stopping import ended_by_sigterm, own_folder
from scripts.errors import USER_ERROR, UserError

MODEL = "namd"

HOSTS = ("127.0.0.1", "localhost")
"""Names under which the server is reached; others could be pointed at it (DNS rebinding)."""

ENDING = ".nii.gz"

MOST_BYTES = 1 << 30
"""Of an upload."""

MOST_WAITING = 8
"""Inferences at once, of which one runs."""

QUERIES = {"/datastore/": {"image"}, f"/infer/{MODEL}": {"image", "output"}}
"""Of each address, what may stand behind its question mark."""


CLIENTS_OWN = ("client_id", "result_extension", "result_dtype")
"""What MONAI Label's own clients add to every question; it has no effect here."""


class Server:
    """The addresses of an app.

    Args:
        app: :class:`deploy.monai_label.main.App`.
    """

    def __init__(self, app: Any) -> None:
        self.app, self.waiting = app, threading.Semaphore(MOST_WAITING)

    def routes(self) -> list[Route]:
        return [
            Route("/info/", self.info),
            Route("/datastore/", self.images),
            Route("/datastore/", self.add, methods=["PUT"]),
            Route(f"/infer/{MODEL}", self.infer, methods=["POST"]),
        ]

    async def info(self, _: Request) -> Response:
        told = await run_in_threadpool(self.app.info)
        return JSONResponse({**told, "datastore": self._images()})  # MONAI Label's own tells where it lies

    async def images(self, _: Request) -> Response:
        return JSONResponse(self._images())

    async def add(self, request: Request) -> Response:
        """Puts a scan into the datastore, after it was read in a process with limits; one of that name is replaced."""
        name = request.query_params.get("image", "").removesuffix(ENDING)
        if not IMAGE_ID.fullmatch(name):
            raise HTTPException(422, "image: expected a name of at most 100 letters, digits, '-', '_' and '.'.")
        with tempfile.TemporaryDirectory() as place:
            given = Path(place) / GIVEN
            given.mkdir()
            try:
                kind = request.headers.get("content-type", "")
                await receive(request.stream(), kind, given, MOST_BYTES, ignored=b"params")
                (scan,) = files if len(files := list(given.glob(f"*{ENDING}"))) == 1 else (None,)
                if scan is None:
                    raise HTTPException(422, f"Expected one file that ends in {ENDING}.")
                await run_in_threadpool(guarded, Path(place))
            except Refusal as error:
                raise HTTPException(error.status, error.words) from error
            await run_in_threadpool(self.app.datastore().add_image, name, str(scan), {})
        return JSONResponse({"image": name})

    async def infer(self, request: Request) -> Response:
        """The follow-up, and the result; both, as MONAI Label's clients expect them, or ``output`` alone."""
        image, output = (request.query_params.get(key, value) for key, value in (("image", ""), ("output", "all")))
        if not IMAGE_ID.fullmatch(image):
            raise HTTPException(404, "no such image; upload it first.")
        if output not in ("all", "image", "json"):
            raise HTTPException(422, "output: expected all, image or json.")
        async with request.form(max_files=0, max_fields=1, max_part_size=4 * LARGEST) as form:
            if set(form) - {"params"}:
                raise HTTPException(422, "Expected params and nothing else.")
            params = str(form.get("params", "{}"))
        if not self.waiting.acquire(blocking=False):
            raise HTTPException(429, "Too many wait already. Ask again later.")
        try:
            asked = {key: value for key, value in parse(params).items() if key not in CLIENTS_OWN}
            if {"model", "image"} & asked.keys():
                raise HTTPException(422, "params: model and image are named by the address alone.")
            told = await run_in_threadpool(self.app.infer, {**asked, "image": image, "model": MODEL})
        except AskedError as error:
            raise HTTPException(422, str(error)) from error
        finally:
            self.waiting.release()
        return await run_in_threadpool(answer, Path(told["file"]), told["params"], output)

    def _images(self) -> dict[str, Any]:
        names = sorted(self.app.datastore().list_images())
        return {"total": len(names), "completed": 0, "images": names}


def answer(file: Path, result: dict[str, Any], output: str) -> Response:
    """The image, the result, or both as multipart/form-data; the file is removed."""
    name, content = "SYNTHETIC-follow-up.nii.gz", file.read_bytes()
    file.unlink()
    if output == "json":
        return JSONResponse(result)
    if output == "image":
        return Response(content, media_type="application/gzip", headers={"Content-Disposition": f"filename={name}"})
    params, image = RequestField("params", json.dumps(result)), RequestField("image", content, name)
    params.make_multipart(content_type="application/json")
    image.make_multipart(content_type="application/gzip")
    body, kind = encode_multipart_formdata([params, image])
    return Response(body, media_type=kind)


async def gate(request: Request, following: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuses what no client of MONAI Label sends, before anything of it is read."""
    query, length = request.query_params, request.headers.get("content-length", "0")
    most = MOST_BYTES if request.method == "PUT" else 1 << 16
    if "origin" in request.headers:
        return _refusal(403, "A page in a browser asks this; expected a client of MONAI Label.")
    if set(query) - QUERIES.get(request.url.path, set()) or len(set(query)) < len(query.multi_items()):
        return _refusal(422, "The address has parameters that are unknown, or one of them twice.")
    if "transfer-encoding" in request.headers or not (length.isascii() and length.isdigit()):
        return _refusal(411, "Expected Content-Length.")
    if len(length) > 15 or int(length) > most:
        return _refusal(413, f"Too large; expected at most {most} bytes.")
    return await following(request)


def _refusal(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _refusal(error.status_code, error.detail)


def make_server(app: Any, hosts: tuple[str, ...] = HOSTS) -> Starlette:
    """The server of an app, under these names."""
    gates = [Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(BaseHTTPMiddleware, dispatch=gate)]
    return Starlette(routes=Server(app).routes(), middleware=gates, exception_handlers={HTTPException: _refused})


def main() -> None:
    """Serves a folder of studies on loopback, and nowhere else."""
    parser = argparse.ArgumentParser(prog="python -m deploy.monai_label.serve", description="Research use only.")
    parser.add_argument("studies", type=Path, help="folder of the NIfTI files that are uploaded")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--solver", choices=["ddim", "dpmpp"], default="dpmpp")
    parser.add_argument("--num_steps", type=int, default=12)
    given = parser.parse_args()
    try:
        from deploy.trust import check_trusted

        check_trusted()
    except UserError as error:
        parser.exit(USER_ERROR, f"{error}\n")
    from deploy.monai_label.main import App
    from deploy.serving import make_server as serving

    given.studies.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings = {"solver": given.solver, "num_steps": given.num_steps}
    app = App(str(Path(__file__).parent), str(given.studies.absolute()), {}, **settings)
    print(f"http://127.0.0.1:{given.port}/  Research use only.", flush=True)
    place = own_folder("namd-label-")
    tempfile.tempdir = str(place)  # of an inference that runs when the server is stopped, too
    with ended_by_sigterm():
        try:
            serving(make_server(app), "127.0.0.1", given.port).run()
        finally:
            shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
