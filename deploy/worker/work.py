"""The worker: from a request in the spool to a result that a query finds at its destination, once."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from data_prep.errors import DataError, ImageError
from data_prep.unforeseen import NO_ROOM
from deploy import dicom_case
from deploy.case import CaseError, Predictor
from deploy.dicom_out.keys import SecretError, read_secret
from deploy.dicom_out.made import Made
from deploy.dicom_out.write import OBJECTS, SLICE, kept
from deploy.request import RequestError
from deploy.worker.config import Config, ConfigError
from deploy.worker.deliver import ABSENT, Archive, DeliveryError, RefusedError
from deploy.worker.guard import UPLOAD, guarded, read
from deploy.worker.metrics import write_metrics
from deploy.worker.spool import SERIES, Item, Spool
from deploy.worker.watch import Watch
from scripts.files import read_mapping, remove_unfinished

logger = logging.getLogger(__name__)

DAY_S = 86400.0

LONGEST_WAIT_S = 1800.0
"""Between two attempts."""

RESULT = ("out", "dicom")
"""Folders of a case's result: what inference writes, and objects for an archive."""

DAMAGED = "spool: its state.json was damaged, so that who asked and where its result goes are not known. Ask again."


class NoRoomError(Exception):
    """The spool's disk is full, which is no fault of a request."""


class Worker:
    """Answers the requests of one spool.

    Args:
        config: of the site.

    Raises:
        UserError: no request could be answered: of the secret, the weights or the settings.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.spool = Spool(config.spool)
        self.archives = {name: Archive(destination) for name, destination in config.destinations.items()}
        self.predictor = Predictor(config.models_dir, **config.settings)
        self.predictor.sampling()
        read_secret(config.secret)
        self.watches = {name: Watch(name, source, self.spool) for name, source in config.sources.items()}
        self.names = (*OBJECTS, SLICE) if config.with_slice else OBJECTS
        self.outcomes = Counter({"done": 0, "dead": 0, "later": 0})
        self.answered = dict.fromkeys(self.watches, 0.0)
        self.next_purge = 0.0

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
            self._clear()
            while True:
                try:
                    self._round()
                except Exception as error:
                    if not is_no_room(error):
                        raise
                    logger.error("no room on the spool's disk: nothing is lost, and it is tried again")
                if once:
                    return
                time.sleep(self.config.poll_s)

    def _clear(self) -> None:
        """Removes what killed workers left of results: crops and records of patients."""
        for folder in (self.spool.root / "results").iterdir():
            for name in RESULT:
                remove_unfinished(folder / name)

    def _round(self) -> None:
        """All that is due."""
        if self.config.keep_days is not None and time.time() >= self.next_purge:
            logger.info("removed: %s", self.spool.purge(self.config.keep_days))
            self.next_purge = time.time() + DAY_S
        self._tell()
        self._check_room()
        for name, watch in self.watches.items():
            try:
                watch.look()
                self.answered[name] = time.time()
            except Exception as error:  # whatever it answers, requests of others are worked on
                if is_no_room(error):
                    raise
                logger.warning("source %s: %s", name, words_of(error))
        self.spool.take()
        for item, awaited in self.spool.overdue(self.config.await_days):
            self._bury(item, f"request: waited {self.config.await_days:g} days for {awaited}.")
        for item in self.spool.due():
            self._tell()
            self._check_room()
            self.answer(item)

    def _tell(self) -> None:
        """Notes that it lives, and how it goes."""
        self.spool.beat()
        if self.config.metrics is not None:
            try:
                write_metrics(self.config.metrics, self.spool, self.outcomes, self.answered)
            except OSError as error:
                logger.warning("metrics: %s: %s", self.config.metrics, error.strerror)

    def _check_room(self) -> None:
        if shutil.disk_usage(self.config.spool).free < self.config.least_free_mb * 2**20:
            raise NoRoomError

    def answer(self, item: Item) -> None:
        """One attempt: done, to be tried again later, or dead. What it began is counted before it begins.

        Raises:
            Exception: the disk is full, see :func:`is_no_room`; the attempt does not count.
        """
        state = item.state
        if "by" not in state:
            self._bury(item, DAMAGED)
            return
        attempts = state["attempts"] + 1
        if attempts > self.config.attempts:  # each attempt ended with the process
            self._bury(item, "unforeseen: no attempt came to its end")
            return
        item.note(attempts=attempts)
        try:
            self._attempt(item, attempts)
        except Exception as error:
            if is_no_room(error):
                with contextlib.suppress(OSError):
                    item.note(attempts=attempts - 1)
            raise

    def _attempt(self, item: Item, attempts: int) -> None:
        try:
            told = self._answer(item)
        except (DataError, RequestError, RefusedError) as error:
            self._bury(item, error.reason if isinstance(error, ImageError) else str(error))
        except Exception as error:  # libraries raise what they like, with values in it
            if is_no_room(error):
                raise
            self._check_room()  # not every library says so
            self._postpone(item, attempts, error)
        else:
            self._audit(item, "done", **told)
            self.spool.finish(item, **told)

    def _postpone(self, item: Item, attempts: int, error: Exception) -> None:
        """After an attempt that failed: another one later, or none after so many, or after a day of a server's absence.

        What a server's absence ended does not count as an attempt.
        """
        words, state, now = words_of(error), item.state, time.time()
        if isinstance(error, ABSENT):
            since = state["absent_since"] or now
            item.note(attempts=attempts - 1, absent_since=since)
            reason, is_last = f"{words}: tried again for a day", now - since >= DAY_S
        else:
            reason, is_last = f"{words}: attempt {attempts} of {self.config.attempts}", attempts == self.config.attempts
        if is_last:
            self._bury(item, reason)
            return
        wait = min(self.config.wait_s * 2 ** state["failures"], LONGEST_WAIT_S)
        item.note(reason=reason, failures=state["failures"] + 1, not_before=now + wait)
        self.outcomes["later"] += 1
        logger.warning("%s later: %s", item.folder.name, reason)

    def _answer(self, item: Item) -> dict[str, Any]:
        """What is to be noted of a request that was answered."""
        remove_unfinished(item.study / SERIES)  # else it would count as files of the study
        if (item.study / UPLOAD).is_file():
            guarded(item.study, item.study / UPLOAD)
        if "fetch" in item.state:
            self._fetch(item, **item.state["fetch"])
        guarded(item.study, item.request)
        request = read(item.request)
        destination = request.destination or item.state.get("destination")
        archive = self._archive(destination)
        case = (self.predictor, item.study, request.point, request.record)
        options: dict[str, Any] = {
            "interval_days": request.interval_days,
            "series_uid": request.series_uid,
            "secret": self.config.secret,
        }
        asked = dicom_case.ask(*case, **options)
        told = {"key": asked.key, "destination": destination}
        folder = self.spool.result(asked.key)
        content = kept(folder / "dicom", asked.key, self.names)
        if content is None and archive is not None and not archive.lacks(self._uids(folder, asked.key)):
            return {**told, "was_there": True}
        if content is None:
            with_slice = self.config.with_slice
            dicom_case.predict(*case, *(folder / name for name in RESULT), with_slice=with_slice, **options)
            content = read_mapping(folder / "dicom" / "objects.json")
        if archive is not None:
            study, patient = (request.identity[key] for key in ("StudyInstanceUID", "PatientID"))
            archive.deliver(folder / "dicom", content, study, patient)
        return told

    def _fetch(self, item: Item, source: str, series: str | None = None) -> None:
        """Brings a request's series from where it is: the one that is told, or that the request itself names."""
        if source not in self.watches:
            raise RequestError(f"request: source is none of the site's {len(self.watches)}.")
        if (series := series or read(item.request).series_uid) is None:
            raise RequestError("request: SeriesInstanceUID missing; a request without slices names their series.")
        self.watches[source].fetch(series, item.study)

    def _archive(self, destination: str | None) -> Archive | None:
        """Where a result goes: a destination of the list, or nowhere."""
        if destination is None:
            return None
        if destination not in self.archives:
            raise RequestError(f"request: destination is none of the site's {len(self.archives)}.")
        return self.archives[destination]

    def _uids(self, folder: Path, key: str) -> list[str]:
        """SOP Instance UIDs of a case's objects, known before they are made."""
        return [str(Made(folder, key).object_uid(name)) for name in self.names]

    def _bury(self, item: Item, reason: str) -> None:
        self._audit(item, "dead", reason=reason)
        self.spool.bury(item, reason)

    def _audit(self, item: Item, event: str, **told: Any) -> None:
        """A line of audit.jsonl, whole or not at all, and of the log: who asked, and no identifiers of patients."""
        entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "id": item.folder.name, "event": event}
        line = json.dumps({**entry, "by": item.state.get("by", "unknown"), **told}) + "\n"
        with (self.config.spool / "audit.jsonl").open("ab", buffering=0) as file:
            end = file.tell()
            try:
                if file.write(line.encode()) < len(line):
                    raise NoRoomError
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(end)
                raise
        self.outcomes[event] += 1
        logger.info("%s %s", item.folder.name, event)


def words_of(error: Exception) -> str:
    """What is told of an error that is no request's: the words of ours that hold nothing of a patient, or its class."""
    return str(error) if isinstance(error, (DeliveryError, SecretError, CaseError)) else type(error).__name__


def is_no_room(error: BaseException | None) -> bool:
    """Whether a full disk is the reason of an error, whatever wraps it."""
    while error is not None:
        if isinstance(error, NoRoomError) or (isinstance(error, OSError) and error.errno in NO_ROOM):
            return True
        error = error.__cause__ or error.__context__
    return False
