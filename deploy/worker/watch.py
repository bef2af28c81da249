"""An Orthanc is asked what has become stable: reports that ask for a nodule are taken, with the series that they mean.

Orthanc's ``/changes`` numbers what happens. Of each study in which a series has become stable, the reports titled
(request, 99NAMD) are taken. One is due once all series of that study that its evidence names are there, and exactly one
of them is allowed by the site's rule, and stable; it waits in the spool until then. The last number is kept on disk,
with the studies that were not stable then; a mark made of the report's SOPInstanceUID tells what was taken before.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from deploy.request import RequestError
from deploy.request_sr import LARGEST, SCHEME, TITLE
from deploy.worker.config import Source
from deploy.worker.deliver import TIMEOUT_S, DeliveryError, open_session, unexpected
from deploy.worker.guard import MOST_BYTES, MOST_FILES
from deploy.worker.spool import SERIES, Spool
from scripts.files import read_mapping, whole_folder, write_json

logger = logging.getLogger(__name__)

PAGE = 100
"""Changes that are asked for at a time."""

EVENTS = ("NewSeries", "StableSeries")
"""After a restart, Orthanc may not tell that what came before it is stable, so that both are looked at."""

REPORT = "request.dcm"
"""In a study, what asks."""


class Watch:
    """One Orthanc.

    Args:
        name: of the site's sources.
        source: where it is, and what may be asked for.
        spool: gets what is asked for.
    """

    def __init__(self, name: str, source: Source, spool: Spool) -> None:
        self.name, self.source, self.spool = name, source, spool
        self.session = open_session(source)
        self.rule_is_new = True
        spool.keep_marks()

    def look(self) -> None:
        """Takes the requests of all that came since the last look, and notes of those that wait what came.

        Raises:
            DeliveryError, requests.RequestException: Orthanc does not answer; the next look begins where this one did.
        """
        path = self.spool.root / f"changes-{self.name}.json"
        (since, waiting), finished = _last_look(path), False
        if self.rule_is_new:
            waiting |= self._awaited_studies()
        if (newest := self._get("changes?last")) is None:
            raise DeliveryError("the source answered 404; expected Orthanc's own interface at its url")
        if newest["Last"] < since:
            since = 0  # its database was made anew
        while not finished:
            page = self._get("changes", since=since, limit=PAGE)
            changed = {each["ID"] for each in page["Changes"] if each["ChangeType"] in EVENTS}
            waiting |= {found["ParentStudy"] for each in changed if (found := self._get(f"series/{each}"))}
            since, finished = page["Last"], page["Done"]
            write_json(path, {"last": since, "waiting": sorted(waiting)}, durable=True)
        if waiting:
            waiting = {study for study in sorted(waiting) if not self._take(study)}
            write_json(path, {"last": since, "waiting": sorted(waiting)}, durable=True)
        self.rule_is_new = False

    def fetch(self, series_uid: str, study: Path) -> None:
        """Brings a series into a folder of a study, whole or not at all; what an earlier attempt brought stays.

        Raises:
            DeliveryError: it is not there (yet), or not stable.
            RequestError: the site's rule does not allow it, or it is too large.
        """
        if (study / SERIES).is_dir():
            return
        answer = self.session.post(
            f"{self.source.url}/tools/lookup", series_uid, timeout=TIMEOUT_S, allow_redirects=False
        )
        numbers = [each["ID"] for each in self._content(answer) or () if each["Type"] == "Series"]
        found = [series for number in numbers if (series := self._get(f"series/{number}"))]
        if len(found) != 1:
            raise DeliveryError(f"{len(found)} series of this number at the source")
        if not self._is_allowed(found[0]):
            raise RequestError("request: the series is none that modality and description of its source allow.")
        if not found[0]["IsStable"]:
            raise DeliveryError("the series is not stable at the source")
        instances = found[0]["Instances"]
        if not 0 < len(instances) <= MOST_FILES:
            raise RequestError(f"request: the series has {len(instances)} files; expected 1 to {MOST_FILES}.")
        left = MOST_BYTES
        with whole_folder(study / SERIES) as folder:
            for number, instance in enumerate(instances):
                left -= self._save(instance, folder / f"{number:05d}.dcm", left)

    def _take(self, study: str) -> bool:
        """Takes the requests of a study, and says whether all of it is stable."""
        series = self._get(f"studies/{study}/series") or []
        there = {each["MainDicomTags"]["SeriesInstanceUID"]: each for each in series}
        for sender, report, instance in self._reports(series):
            named = _evidence(report)
            meant = [uid for uid in named if uid in there and self._is_allowed(there[uid])]
            is_whole = all(uid in there for uid, of in named.items() if of == str(report.get("StudyInstanceUID")))
            told: dict[str, Any] = {
                "awaits": _awaited([there[uid] for uid in meant], is_whole),
                "orthanc_study": study,
                "fetch": {"source": self.name, "series": next(iter(meant), None)},
                "destination": self.source.destination,
            }
            uid = report.get("SOPInstanceUID")
            mark, former = _mark(f"{uid}"), _mark(f"{self.name} {uid}")  # the latter is that of versions to 0.15.0
            item = self.spool.marked(mark) or self.spool.marked(former)
            if item is None and not self.spool.remembers(mark, former):
                self._put(instance, mark, **told, by=f"AE {sender or 'unknown'}")
            elif item and item.state["awaits"] not in ("", told["awaits"]):  # dead ones too, which may be tried again
                item.note(**told)
            self.spool.remember(mark)
        return all(each["IsStable"] for each in series)

    def _awaited_studies(self) -> set[str]:
        """Studies of reports that wait, of whichever source: Orthanc's numbers, which say nothing to another one."""
        states = [item.state for item in self.spool.waiting()]
        return {state["orthanc_study"] for state in states if state["awaits"] and "orthanc_study" in state}

    def _put(self, instance: str, mark: str, **told: Any) -> None:
        """Takes a report."""
        with self.spool.staging() as folder:
            try:
                self._save(instance, folder / REPORT, LARGEST)
            except RequestError as error:
                logger.warning("a report at %s is not taken: %s", self.name, error)
            else:
                self.spool.put(folder, mark, **told)

    def _is_allowed(self, series: dict[str, Any]) -> bool:
        tags = series["MainDicomTags"]
        described = re.search(self.source.description, tags.get("SeriesDescription", ""))
        return tags.get("Modality") == self.source.modality and described is not None

    def _reports(self, series: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Sender, tags and Orthanc's number of every stable report that asks, and that came from who may ask."""
        for each in series:
            if each["MainDicomTags"].get("Modality") == "SR" and each["IsStable"]:
                answer = self._answer(f"series/{each['ID']}/metadata/RemoteAET")
                sender = answer.text if answer is not None else ""
                if not self.source.ae_titles or sender in self.source.ae_titles:
                    for instance in each["Instances"]:
                        tags = self._get(f"instances/{instance}/simplified-tags") or {}
                        title = _first(tags.get("ConceptNameCodeSequence"))
                        if (title.get("CodeValue"), title.get("CodingSchemeDesignator")) == (TITLE, SCHEME):
                            yield sender, tags, instance

    def _save(self, instance: str, path: Path, most: int) -> int:
        """Writes a file, and gives its bytes."""
        url, size = f"{self.source.url}/instances/{instance}/file", 0
        with self.session.get(url, timeout=TIMEOUT_S, allow_redirects=False, stream=True) as answer:
            if answer.status_code != 200:
                raise unexpected("source", answer.status_code)
            with path.open("wb") as file:
                for part in answer.iter_content(1 << 20):
                    size += file.write(part)
                    if size > most:
                        raise RequestError(f"request: more than {most} bytes at the source.")
        return size

    def _get(self, path: str, **terms: Any) -> Any:
        """What Orthanc says; None of what is not there any more."""
        answer = self._answer(path, **terms)
        return None if answer is None else self._content(answer)

    def _answer(self, path: str, **terms: Any) -> requests.Response | None:
        url = f"{self.source.url}/{path}"
        answer = self.session.get(url, params=terms, timeout=TIMEOUT_S, allow_redirects=False)
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise unexpected("source", answer.status_code)
        return answer

    def _content(self, answer: requests.Response) -> Any:
        if answer.status_code != 200:
            raise unexpected("source", answer.status_code)
        try:
            return answer.json()
        except ValueError as error:
            raise DeliveryError("the source's answer is no JSON") from error


def _last_look(path: Path) -> tuple[int, set[str]]:
    """Where the last look ended, and the studies that were not stable then; the beginning, where that is not known."""
    try:
        told = read_mapping(path)
        return int(told["last"]), {*told["waiting"]}
    except (KeyError, TypeError, ValueError):  # among these what is not there
        if path.exists():
            logger.warning("%s is damaged: its source is looked through from the beginning", path.name)
        return 0, set()


def _awaited(meant: list[dict[str, Any]], is_whole: bool) -> str:
    """What a report waits for; empty: nothing.

    Args:
        meant: the series that it names and the rule allows.
        is_whole: whether all series of its study that it names are there.
    """
    if not meant:
        return "a series that it names and the rule of its source allows"
    if len(meant) > 1:
        return "a rule of its source that allows one of the series that it names and not several"
    if not is_whole:
        return "the other series that it names"
    return "" if meant[0]["IsStable"] else "its series to be whole"


def _mark(text: str) -> str:
    """A digest by which a report is known again, and which tells nothing of it."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _first(sequence: Any) -> dict[str, Any]:
    """The first item of a sequence in simplified tags."""
    return sequence[0] if isinstance(sequence, list) and sequence and isinstance(sequence[0], dict) else {}


def _evidence(report: dict[str, Any]) -> dict[str, str]:
    """SeriesInstanceUID of all series that a report says it was made of, with the StudyInstanceUID of each."""
    return {
        str(series.get("SeriesInstanceUID")): str(study.get("StudyInstanceUID"))
        for study in report.get("CurrentRequestedProcedureEvidenceSequence") or ()
        if isinstance(study, dict)
        for series in study.get("ReferencedSeriesSequence") or ()
        if isinstance(series, dict)
    }
