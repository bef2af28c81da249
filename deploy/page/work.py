"""What the queue works on: a case at its own interval, and its course, the size at several times."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_prep.cutting import Centre
from deploy.case import RESULT, Predictor
from deploy.page.jobs import Job, Queue
from deploy.page.sessions import Case, Session
from scripts.files import read_mapping

COURSE_DAYS = (182.0, 365.0, 730.0)
"""When sizes are asked for, beside the case's own interval."""

Tell = Callable[[float], None]
"""Takes the progress, 0 to 1."""


class Work:
    """Puts cases into a queue.

    Args:
        predictor: generates them, one at a time.
    """

    def __init__(self, queue: Queue, predictor: Predictor) -> None:
        self.queue, self.predictor = queue, predictor

    def add(self, session: Session, case: Case) -> None:
        """A case of a session.

        Raises:
            Refusal: the queue is full.
        """
        case.job = Job(session.token, lambda tell: self._generate(case, case.interval_days, case.out, tell))
        self.queue.add(case.job)
        session.cases[case.id] = case

    def add_course(self, session: Session, case: Case) -> Job:
        """The course of a finished case.

        Raises:
            Refusal: the queue is full.
        """
        job = Job(session.token, lambda tell: self._course(case, tell))
        self.queue.add(job)
        case.course_job = job
        return job

    def warm_up(self, example: Callable[[], tuple[Path, Centre, dict[str, float]]]) -> None:
        """One case for nobody, by which the weights are opened before somebody asks.

        Args:
            example: makes a scan, a point and a record.
        """

        def work(tell: Tell) -> None:
            with tempfile.TemporaryDirectory() as place:
                self.predictor.predict(*example(), Path(place) / "out", progress=tell)

        self.queue.add(Job("", work))

    def _generate(self, case: Case, days: float, out: Path, tell: Tell) -> dict[str, Any]:
        """One case after one interval; what was removed meanwhile stays removed."""
        try:
            asked = (case.scan.image, case.point, case.record, out)
            return self.predictor.predict(*asked, interval_days=days, progress=tell)
        finally:
            if any(job is not None and job.dropped for job in (case.job, case.course_job)):
                case.clear()

    def _course(self, case: Case, tell: Tell) -> None:
        """Its size at several times, each generated on its own."""
        from scripts.results.course import course

        results = [read_mapping(case.out / RESULT)]
        days = [each for each in COURSE_DAYS if each != case.interval_days]
        for index, each in enumerate(days):

            def of_all(fraction: float, index: int = index) -> None:
                tell((index + fraction) / len(days))

            results.append(self._generate(case, each, case.folder / f"after-{each:g}", of_all))
        case.course = course("nodule", results)
