"""The page's addresses: what a browser asks for, and what it is given.

A request names a scan or a case of its own session, a point, a record and an interval, and nothing else: neither a
file, nor a configuration, nor weights.
"""

from __future__ import annotations

import asyncio
import json
import mimetypes
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from deploy.case import Predictor
from deploy.page import downloads, reading, shown
from deploy.page.asked import Asked, AskedCase, read_asked, report_of
from deploy.page.example import Example
from deploy.page.gate import Gate
from deploy.page.jobs import Job, Queue
from deploy.page.refusal import Refusal
from deploy.page.sessions import DELETED, MOST_CASES, Case, Scan, Session, Store
from deploy.page.settings import Settings
from deploy.page.uploads import receive
from deploy.page.work import COURSE_DAYS, Work
from deploy.stopping import own_folder
from scripts.ehr.features import validate

STATIC = {path.name: path for path in (Path(__file__).parent / "static").iterdir()}
"""Our own files, by name."""

MOST_STREAMS, TICK_S, ALIVE_S = 8, 0.1, 15.0
"""Of progress: streams of one session at once; seconds between two looks, and after which silence is broken."""

MOST_READERS = 2
"""Scans that are read at once."""


class Page:
    """The page of one site.

    Args:
        settings: of the site.
        predictor: generates cases.
        warm: whether its weights are opened before somebody asks.
    """

    def __init__(self, settings: Settings, predictor: Predictor, warm: bool) -> None:
        self.settings, self.warm = settings, warm
        self.root = own_folder("namd-page-")
        self.queue = Queue()
        self.work = Work(self.queue, predictor)
        self.store = Store(self.root / "sessions", self.queue, settings.keep_minutes * 60)
        self.store.root.mkdir()
        self.example = Example(self.root / "example")
        self.readers = asyncio.Semaphore(MOST_READERS)

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """From the start to the end, at which everything is deleted."""

        async def expire() -> None:
            while True:
                await asyncio.sleep(min(20.0, self.store.keep_s / 4))
                await run_in_threadpool(self.store.expire)

        if self.warm:
            self.work.warm_up(self.example.case)
        before, tempfile.tempdir = tempfile.tempdir, str(self.root)  # whatever else is temporary lies there too
        self.queue.start()
        tasks = [asyncio.create_task(expire()), asyncio.create_task(run_in_threadpool(self.example.made))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await run_in_threadpool(self.queue.close)
            self.store.close()
            tempfile.tempdir = before
            shutil.rmtree(self.root, ignore_errors=True)

    def session(self, request: Request) -> Session:
        return self.store.get(request.scope["namd_session"])

    def told(self, case: Case) -> dict[str, Any]:
        """State, place and progress of a case."""
        return self.queue.told(case.job) if case.job is not None else {}

    # --- the page itself

    async def file(self, request: Request) -> Response:
        """One of our own files."""
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        if name not in STATIC:
            raise Refusal(404, "No such file.")
        return Response(STATIC[name].read_bytes(), media_type=mimetypes.guess_type(name)[0])

    async def index(self, _: Request) -> Response:
        return self._file("index.html")

    async def login(self, _: Request) -> Response:
        return self._file("login.html")

    async def health(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def form(self, _: Request) -> Response:
        """The record's form."""
        return JSONResponse(
            {"groups": shown.form(), "course_days": COURSE_DAYS, "keep_minutes": self.settings.keep_minutes}
        )

    async def contents(self, request: Request) -> Response:
        """What the session has, as after a reload."""
        session = self.session(request)
        cases = [{**shown.summary(case), **self.told(case)} for case in session.cases.values()]
        return JSONResponse({"scans": [scan.content() for scan in session.scans.values()], "cases": cases})

    async def forget(self, request: Request) -> Response:
        """Deletes the session."""
        await run_in_threadpool(self.store.remove, request.scope["namd_session"])
        return JSONResponse({})

    # --- scans

    async def load(self, request: Request) -> Response:
        """A scan from the browser."""
        session = self.session(request)
        async with self.readers:
            identifier, folder = self.store.new_folder(session)
            try:
                (folder / reading.GIVEN).mkdir()
                kind = request.headers.get("content-type", "")
                await receive(request.stream(), kind, folder / reading.GIVEN, self.settings.most_bytes)
                told = await run_in_threadpool(reading.guarded, folder)
            except BaseException as error:
                shutil.rmtree(folder, ignore_errors=True)
                if isinstance(error, FileNotFoundError):
                    raise Refusal(404, DELETED) from error
                raise
        return self._loaded(session, identifier, folder, told)

    async def load_example(self, request: Request) -> Response:
        """The simulated scan."""
        session = self.session(request)
        await run_in_threadpool(self.example.made)
        identifier, folder = self.store.new_folder(session)
        told = await run_in_threadpool(self.example.copy, folder)
        return self._loaded(session, identifier, folder, told, True)

    def _loaded(
        self, session: Session, identifier: str, folder: Path, told: Mapping[str, Any], simulated: bool = False
    ) -> Response:
        shape, spacing, origin, heights = (told[name] for name in ("shape", "spacing", "origin", "heights"))
        suggested = told.get("suggested", {})
        if shape[2] == 1:  # a crop, the nodule in its middle
            suggested = {"point": [origin[axis] + spacing[axis] * (shape[axis] // 2) for axis in (0, 1)] + heights}
        geometry = {name: told[name] for name in ("dicom", "shape", "spacing", "origin", "heights")}
        scan = Scan(identifier, folder, folder / told["image"], geometry, simulated, suggested)
        self.store.add_scan(session, scan)
        return JSONResponse(scan.content(), 201)

    async def slice(self, request: Request) -> Response:
        """HU of a slice, rows of little-endian 16-bit numbers."""
        found = self.session(request).scan(request.path_params["scan"])
        number = request.path_params["number"]
        columns, rows, count = found.told["shape"]
        if not 0 <= number < count:
            raise Refusal(404, f"No such slice; expected 0 to {count - 1}.")
        size = columns * rows * 2
        with (found.folder / reading.SLICES).open("rb") as file:
            file.seek(number * size)
            return Response(file.read(size), media_type="application/octet-stream")

    # --- cases

    async def report(self, request: Request) -> Response:
        """The text that the language model would read."""
        return JSONResponse({"report": report_of(await read_asked(request, Asked))})

    async def add_case(self, request: Request) -> Response:
        """Puts a case into the queue."""
        session, asked = self.session(request), await read_asked(request, AskedCase)
        report_of(asked)
        scan, point = session.scan(asked.scan), (asked.point[0], asked.point[1], asked.point[2])
        if len(session.cases) >= MOST_CASES:
            raise Refusal(429, f"This session has {MOST_CASES} cases. Remove some, or start over.")
        record = validate(asked.record)
        case = Case(secrets.token_hex(16), session.count + 1, scan, point, record, asked.interval_days)
        self.work.add(session, case)
        if session.scans.get(scan.id) is not scan:  # it was removed since, in another thread
            self.store.remove_case(session, case)
            raise Refusal(404, DELETED)
        session.count += 1
        return JSONResponse({**shown.summary(case), **self.told(case)}, 202)

    async def add_course(self, request: Request) -> Response:
        """Puts the sizes of a case at several times into the queue."""
        session, found = self.session(request), self._finished(request)
        if found.course_job is not None and found.course_job.state != "failed":
            raise Refusal(409, "It was asked for already.")
        return JSONResponse(self.queue.told(self.work.add_course(session, found)), 202)

    def _case(self, request: Request) -> Case:
        return self.session(request).case(request.path_params["case"])

    def _finished(self, request: Request) -> Case:
        case = self._case(request)
        if self.told(case)["state"] != "done":
            raise Refusal(409, "This case is not finished.")
        return case

    async def case(self, request: Request) -> Response:
        """A finished case."""
        return JSONResponse(await run_in_threadpool(shown.content, self._finished(request)))

    async def remove_case(self, request: Request) -> Response:
        """Takes a case back, or removes it."""
        await run_in_threadpool(self.store.remove_case, self.session(request), self._case(request))
        return JSONResponse({})

    async def images(self, request: Request) -> Response:
        """The images of a finished case."""
        content = await run_in_threadpool(shown.images, self._finished(request))
        return Response(content, media_type="application/octet-stream")

    async def download(self, request: Request) -> Response:
        """A file to take along."""
        session, case, kind = self.session(request), self._finished(request), request.path_params["kind"]
        try:
            content = await run_in_threadpool(downloads.download, case, kind, self.work.predictor, self.settings.secret)
        finally:
            if session.cases.get(case.id) is not case:
                await run_in_threadpool(case.clear)
                raise Refusal(404, "This case was removed meanwhile.")
        media, name = downloads.KINDS[kind]
        return Response(content, media_type=media, headers={"Content-Disposition": f'attachment; filename="{name}"'})

    async def events(self, request: Request) -> Response:
        """Progress of a case or of its course, as server-sent events."""
        session, case = self.session(request), self._case(request)
        job = case.course_job if request.query_params.get("what") == "course" else case.job
        if job is None:
            raise Refusal(404, "It was not asked for.")
        if session.streams >= MOST_STREAMS:
            raise Refusal(429, "Too many streams of progress are open.")
        return StreamingResponse(self._stream(session, job), media_type="text/event-stream")

    async def _stream(self, session: Session, job: Job) -> AsyncIterator[str]:
        session.streams += 1
        last, said = None, time.monotonic()
        try:
            while True:
                told, now = self.queue.told(job), time.monotonic()
                if told != last:
                    last, said = told, now
                    yield f"data: {json.dumps(told)}\n\n"
                elif now - said > ALIVE_S:
                    said = now
                    yield ": waiting\n\n"
                if told["state"] in ("done", "failed"):
                    return
                session.seen = now
                await asyncio.sleep(TICK_S)
        finally:
            session.streams -= 1


def make_app(settings: Settings, predictor: Predictor, warm: bool = False) -> Gate:
    """The page as an ASGI application, see :class:`Page`."""
    page = Page(settings, predictor, warm)
    routes: list[tuple[str, str, Callable]] = [
        ("GET", "/", page.index),
        ("GET", "/login", page.login),
        ("GET", "/static/{name}", page.file),
        ("GET", "/health", page.health),
        ("GET", "/api/form", page.form),
        ("GET", "/api/session", page.contents),
        ("DELETE", "/api/session", page.forget),
        ("POST", "/api/scans", page.load),
        ("POST", "/api/scans/example", page.load_example),
        ("GET", "/api/scans/{scan}/slices/{number:int}", page.slice),
        ("POST", "/api/report", page.report),
        ("POST", "/api/cases", page.add_case),
        ("GET", "/api/cases/{case}", page.case),
        ("DELETE", "/api/cases/{case}", page.remove_case),
        ("GET", "/api/cases/{case}/events", page.events),
        ("GET", "/api/cases/{case}/images", page.images),
        ("POST", "/api/cases/{case}/course", page.add_course),
        ("GET", "/api/cases/{case}/download/{kind}", page.download),
    ]
    app = Starlette(
        routes=[Route(path, endpoint, methods=[method]) for method, path, endpoint in routes],
        exception_handlers={Refusal: _refused, HTTPException: _plain, Exception: _unforeseen},
        lifespan=page.lifespan,
    )
    app.router.redirect_slashes = False
    return Gate(app, settings)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


async def _plain(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Refusal(error.status_code, "No such address, or not this way.").response()


async def _unforeseen(_: Request, error: Exception) -> Response:
    return Refusal(500, "This failed for a reason that nobody foresaw. The server's log has its kind.").response()
