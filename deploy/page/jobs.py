"""What waits to be generated: one job at a time, in the order of asking; whoever waits sees the place in the queue."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.errors import ImageError
from data_prep.unforeseen import UnforeseenError
from deploy.page.refusal import Refusal
from scripts.ehr.features import EHRError

logger = logging.getLogger(__name__)

MOST_WAITING, MOST_OF_ONE = 64, 4
"""Jobs in the queue, of all sessions and of one."""

UNFORESEEN = "This case could not be made, for a reason that nobody foresaw. The server's log has its kind."


class DroppedError(Exception):
    """Nobody waits for this job any more."""


@dataclass(eq=False)
class Job:
    """One generation.

    Attributes:
        owner: the session that asked.
        work: makes it, and tells its progress, 0 to 1, to the function that it is given.
        state: ``waiting``, ``running``, ``done`` or ``failed``.
        reason: why it failed, in words for whoever asked.
    """

    owner: str
    work: Callable[[Callable[[float], None]], object]
    state: str = "waiting"
    fraction: float = 0.0
    reason: str = ""
    dropped: bool = field(default=False, repr=False)

    def tell(self, fraction: float) -> None:
        """Notes the progress.

        Raises:
            DroppedError: in the middle of the work, which ends it.
        """
        if self.dropped:
            raise DroppedError
        self.fraction = min(1.0, max(self.fraction, float(fraction)))

    @property
    def ended(self) -> bool:
        return self.state in ("done", "failed")


class Queue:
    """The jobs of all sessions, and the one thread that works on them."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="generation", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, patience: float = 30.0) -> None:
        """Drops all jobs, and waits for the one that runs."""
        with self._changed:
            self._closed = True
            for job in [*self._waiting, *([self._running] if self._running else [])]:
                job.dropped = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(patience)

    def add(self, job: Job) -> None:
        """Puts a job at the end.

        Raises:
            Refusal: the queue, or the session's part of it, is full.
        """
        with self._changed:
            running = [self._running] if self._running else []
            if sum(each.owner == job.owner for each in [*self._waiting, *running]) >= MOST_OF_ONE:
                raise Refusal(429, f"{MOST_OF_ONE} of your cases wait already. Ask again when one of them is done.")
            if len(self._waiting) >= MOST_WAITING:
                raise Refusal(503, f"{MOST_WAITING} cases wait already. Ask again later.")
            self._waiting.append(job)
            self._changed.notify_all()

    def drop(self, job: Job) -> None:
        """Takes a job out of the queue; one that runs ends at its next word of progress."""
        with self._changed:
            job.dropped = True
            if job in self._waiting:
                self._waiting.remove(job)
                job.state, job.reason = "failed", "It was taken back."

    def told(self, job: Job) -> dict[str, Any]:
        """What is to be seen of a job: its state, progress, and place, of which 1 is next."""
        with self._changed:
            place = self._waiting.index(job) + 1 if job in self._waiting else 0
        return {"state": job.state, "place": place, "fraction": round(job.fraction, 3), "reason": job.reason}

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                self._running = job = self._waiting.popleft()
                job.state = "running"
            begun = time.monotonic()
            try:
                job.work(job.tell)
                job.fraction, job.state = 1.0, "done"
                logger.info("a case in %.1f s", time.monotonic() - begun)
            except Exception as error:  # libraries raise what they like, with values in it
                job.reason = in_words(error)
                job.state = "failed"
            with self._changed:
                self._running = None


def in_words(error: BaseException) -> str:
    """Why a job failed, without paths and without others' words; what is unforeseen goes to the log by its kind."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, EHRError):
            return str(cause)
        if isinstance(cause, ImageError) and not isinstance(cause, UnforeseenError):
            return cause.reason
        if isinstance(cause, DroppedError):
            return "It was taken back."
        cause = cause.__cause__ or cause.__context__
    logger.error("a case failed: %s", UnforeseenError(Path("case"), error).cause)
    return UNFORESEEN
