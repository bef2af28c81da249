"""Sessions: what one browser loaded and what was made for it, in a folder of its own that is deleted when it is idle.

Nothing here has a name that a request could choose: scans and cases have random identifiers, and are looked for among
those of the session alone.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.cutting import Centre
from deploy.page.jobs import Job, Queue
from deploy.page.refusal import Refusal

MOST_SESSIONS, MOST_SCANS, MOST_CASES = 64, 3, 24
"""At once; of a session, the oldest scan makes place for a new one."""

DELETED = "The session was deleted meanwhile. Load the scan again."


@dataclass(eq=False)
class Scan:
    """A scan that was loaded.

    Attributes:
        folder: of this scan and its cases, see :mod:`deploy.page.reading`.
        image: the series' folder or the file, as predictions read it.
        told: its geometry, see :func:`deploy.page.reading.read`.
        simulated: the embedded example.
        suggested: a point, and of the example a record.
    """

    id: str
    folder: Path
    image: Path
    told: Mapping[str, Any]
    simulated: bool = False
    suggested: Mapping[str, Any] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """What the browser is told."""
        return {"id": self.id, "simulated": self.simulated, "suggested": dict(self.suggested), **self.told}


@dataclass(eq=False)
class Case:
    """A point and a record of a scan, and the result.

    Attributes:
        number: counted in the session, by which it is called.
        record: see :func:`scripts.ehr.features.validate`.
        course: sizes at several times, see :func:`scripts.results.course.course`; None before it was asked for.
    """

    id: str
    number: int
    scan: Scan
    point: Centre
    record: Mapping[str, float] = field(repr=False)
    interval_days: float
    job: Job | None = None
    course: dict[str, Any] | None = None
    course_job: Job | None = None

    @property
    def folder(self) -> Path:
        return self.scan.folder / self.id

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def clear(self) -> None:
        """Removes what was written of a case that is no more, and the folders above that writing made again for it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in (self.scan.folder, self.scan.folder.parent):
            with contextlib.suppress(OSError):
                folder.rmdir()


class Session:
    """What belongs to one browser."""

    def __init__(self, token: str, folder: Path) -> None:
        self.token, self.folder = token, folder
        self.scans: dict[str, Scan] = {}
        self.cases: dict[str, Case] = {}
        self.count = 0
        self.streams = 0
        self.seen = time.monotonic()
        folder.mkdir(mode=0o700)

    def scan(self, identifier: str) -> Scan:
        """Raises:
        Refusal: this session has none of that name."""
        if (found := self.scans.get(identifier)) is None:
            raise Refusal(404, "No such scan in this session. Load it again.")
        return found

    def case(self, identifier: str) -> Case:
        """Raises:
        Refusal: this session has none of that name."""
        if (found := self.cases.get(identifier)) is None:
            raise Refusal(404, "No such case in this session.")
        return found

    def jobs(self) -> list[Job]:
        """All that waits or runs."""
        found = [job for case in self.cases.values() for job in (case.job, case.course_job) if job is not None]
        return [job for job in found if not job.ended]


class Store:
    """All sessions.

    Args:
        root: an empty folder that only its owner may enter.
        queue: whose jobs end with their sessions.
        keep_s: seconds without a request after which a session is deleted.
    """

    def __init__(self, root: Path, queue: Queue, keep_s: float) -> None:
        self.root, self.queue, self.keep_s = root, queue, keep_s
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def get(self, token: str) -> Session:
        """The session of a cookie, made at its first use.

        Raises:
            Refusal: too many are open.
        """
        with self._lock:
            if token not in self._sessions:
                self._make_place()
                self._sessions[token] = Session(token, self.root / secrets.token_hex(16))
            session = self._sessions[token]
            session.seen = time.monotonic()
            return session

    def _make_place(self) -> None:
        """Where all places are taken, the one that was idle longest of those that loaded nothing goes."""
        if len(self._sessions) < MOST_SESSIONS:
            return
        empty = [each for each in self._sessions.values() if not each.scans]
        if not empty:
            raise Refusal(503, "Too many sessions are open. Try again later.")
        oldest = min(empty, key=lambda each: each.seen)
        del self._sessions[oldest.token]
        shutil.rmtree(oldest.folder, ignore_errors=True)

    def new_folder(self, session: Session) -> tuple[str, Path]:
        """An identifier, and an empty folder of that name for a scan.

        Raises:
            Refusal: the session was deleted.
        """
        identifier = secrets.token_hex(16)
        folder = session.folder / identifier
        try:
            folder.mkdir(mode=0o700)
        except FileNotFoundError as error:
            raise Refusal(404, DELETED) from error
        return identifier, folder

    def add_scan(self, session: Session, scan: Scan) -> None:
        """Adds a scan that was read; beyond :data:`MOST_SCANS` the oldest one goes.

        Raises:
            Refusal: the session was deleted, and with it what was written since.
        """
        with self._lock:
            if is_there := self._sessions.get(session.token) is session:
                session.scans[scan.id] = scan
        if not is_there:
            shutil.rmtree(session.folder, ignore_errors=True)
            raise Refusal(404, DELETED)
        for oldest in list(session.scans.values())[:-MOST_SCANS]:
            self.remove_scan(session, oldest)

    def remove_scan(self, session: Session, scan: Scan) -> None:
        """Removes a scan and its cases."""
        session.scans.pop(scan.id, None)  # first, so that a case which is added now finds it gone
        for case in [case for case in session.cases.values() if case.scan is scan]:
            self.remove_case(session, case)
        shutil.rmtree(scan.folder, ignore_errors=True)

    def remove_case(self, session: Session, case: Case) -> None:
        """Removes a case; what runs for it ends, and removes what it writes until then."""
        session.cases.pop(case.id, None)
        for job in (case.job, case.course_job):
            if job is not None:
                self.queue.drop(job)
        shutil.rmtree(case.folder, ignore_errors=True)

    def remove(self, token: str) -> None:
        """Removes a session and all that belongs to it."""
        with self._lock:
            session = self._sessions.pop(token, None)
        if session is not None:
            for scan in list(session.scans.values()):
                self.remove_scan(session, scan)
            shutil.rmtree(session.folder, ignore_errors=True)

    def expire(self) -> None:
        """Removes the sessions that were idle for too long; one that waits for a case is not idle."""
        now = time.monotonic()
        with self._lock:
            idle = [each.token for each in self._sessions.values() if now - each.seen > self.keep_s and not each.jobs()]
        for token in idle:
            self.remove(token)

    def close(self) -> None:
        """Removes everything."""
        for token in list(self._sessions):
            self.remove(token)
        shutil.rmtree(self.root, ignore_errors=True)
