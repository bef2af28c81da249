"""The worker: from a request in the spool to a result that a query finds at its destination, once."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from data_prep.errors import DataError, ImageError
from deploy import dicom_case
from deploy.case import Predictor
from deploy.dicom_out.made import Made
from deploy.dicom_out.write import OBJECTS, SLICE, kept
from deploy.request import Request, RequestError
from deploy.worker.config import Config, ConfigError
from deploy.worker.deliver import Archive, RefusedError
from deploy.worker.guard import guarded, read
from deploy.worker.spool import Item, Spool
from scripts.files import read_mapping

logger = logging.getLogger(__name__)


class Worker:
    """Answers the requests of one spool.

    Args:
        config: of the site.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.spool = Spool(config.spool)
        self.archives = {name: Archive(destination) for name, destination in config.destinations.items()}
        self.predictor = Predictor(config.models_dir, **config.settings)
        self.names = (*OBJECTS, SLICE) if config.with_slice else OBJECTS

    def run(self, once: bool = False) -> None:
        """Works until it is stopped; with ``once`` until nothing is due.

        Raises:
            ConfigError: another worker has this spool.
        """
        try:
            held = FileLock(self.config.spool / ".lock").acquire(timeout=0)
        except Timeout as error:
            raise ConfigError(f"{self.config.spool}: another worker has it. One is enough, and safe.") from error
        with held:
            while True:
                self.spool.take()
                for item in self.spool.due():
                    self.answer(item)
                if once:
                    return
                time.sleep(self.config.poll_s)

    def answer(self, item: Item) -> None:
        """One attempt: done, to be tried again later, or dead. What it began is counted before it begins."""
        attempts = item.state["attempts"] + 1
        if attempts > self.config.attempts:  # each attempt ended with the process
            self._bury(item, "unforeseen: no attempt came to its end")
            return
        item.note(attempts=attempts)
        try:
            told = self._answer(item)
        except (DataError, RequestError, RefusedError) as error:
            self._bury(item, error.reason if isinstance(error, ImageError) else str(error))
        except Exception as error:  # libraries raise what they like, with values in it
            reason = f"{type(error).__name__}: attempt {attempts} of {self.config.attempts}"
            if attempts == self.config.attempts:
                self._bury(item, reason)
                return
            item.note(reason=reason, not_before=time.time() + self.config.wait_s * 2 ** (attempts - 1))
            logger.warning("%s later: %s", item.folder.name, reason)
        else:
            self.spool.finish(item, **told)
            self._audit(item, "done", **told)

    def _answer(self, item: Item) -> dict[str, Any]:
        """What is to be noted of a request that was answered."""
        guarded(item.study, item.request)
        request = read(item.request)
        archive = self._archive(request)
        case = (self.predictor, item.study, request.point, request.record)
        options: dict[str, Any] = {
            "interval_days": request.interval_days,
            "series_uid": request.series_uid,
            "secret": self.config.secret,
        }
        asked = dicom_case.ask(*case, **options)
        told = {"key": asked.key, "destination": request.destination}
        folder = self.spool.result(asked.key)
        content = kept(folder / "dicom", asked.key, self.names)
        if content is None and archive is not None and not archive.lacks(self._uids(folder, asked.key)):
            return {**told, "was_there": True}
        if content is None:
            with_slice = self.config.with_slice
            dicom_case.predict(*case, folder / "out", folder / "dicom", with_slice=with_slice, **options)
            content = read_mapping(folder / "dicom" / "objects.json")
        if archive is not None:
            study, patient = (request.identity[key] for key in ("StudyInstanceUID", "PatientID"))
            archive.deliver(folder / "dicom", content, study, patient)
        return told

    def _archive(self, request: Request) -> Archive | None:
        """Where a result goes: a destination of the list, or nowhere."""
        if request.destination is None:
            return None
        if request.destination not in self.archives:
            raise RequestError(f"request: destination is none of the site's {len(self.archives)}.")
        return self.archives[request.destination]

    def _uids(self, folder: Path, key: str) -> list[str]:
        """SOP Instance UIDs of a case's objects, known before they are made."""
        return [str(Made(folder, key).object_uid(name)) for name in self.names]

    def _bury(self, item: Item, reason: str) -> None:
        self.spool.bury(item, reason)
        self._audit(item, "dead", reason=reason)

    def _audit(self, item: Item, event: str, **told: Any) -> None:
        """A line of audit.jsonl, and of the log: no identifiers."""
        logger.info("%s %s", item.folder.name, event)
        entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "id": item.folder.name, "event": event, **told}
        with (self.config.spool / "audit.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
