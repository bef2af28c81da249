"""A request: whose nodule it is, where it lies, and the record. It has to be of the series that it comes with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.cutting import Centre
from data_prep.images.dicom import open_series
from data_prep.images.headers import read_whole
from deploy.dicom_out.write import quiet
from scripts.ehr.features import validate
from scripts.errors import UserError

IDENTITY = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID")
"""What a request and all slices of its series have alike."""

KEYS = (*IDENTITY, "point", "record")
OPTIONAL = ("SeriesInstanceUID", "interval_days", "destination")

LARGEST = 1 << 16
"""Bytes of a request."""


class RequestError(UserError):
    """A request that is malformed, or of another patient, study or place; the message has no value of it."""


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        identity: PatientID, StudyInstanceUID and FrameOfReferenceUID.
        point: the nodule's centre, mm, LPS.
        record: see :func:`scripts.ehr.features.validate`.
        interval_days: from the scan to the follow-up.
        series_uid: of several series in the study, the one that is meant.
        destination: the name of one that the site allows; None: the result stays where it is made.
        evidence: SeriesInstanceUID of each series that a report names as its evidence; empty: it names none.
    """

    identity: Mapping[str, str] = field(repr=False)
    point: Centre
    record: Mapping[str, Any] = field(repr=False)
    interval_days: float = 365
    series_uid: str | None = None
    destination: str | None = None
    evidence: frozenset[str] = frozenset()


def read_request(path: Path) -> Request:
    """A request from a JSON file.

    Raises:
        RequestError: what is wrong, by key.
    """
    content = _read(path)
    if unknown := sorted(content.keys() - {*KEYS, *OPTIONAL}):
        raise RequestError(
            f"request: {len(unknown)} unknown keys; expected {', '.join(KEYS)}, and {', '.join(OPTIONAL)}."
        )
    if missing := [key for key in KEYS if key not in content]:
        raise RequestError(f"request: {', '.join(missing)} missing; a request names patient, study and place.")
    return make_request(content)


def make_request(content: Mapping[str, Any]) -> Request:
    """A request from its values, by key.

    Raises:
        RequestError: what is wrong, by key.
    """
    for key in (*IDENTITY, "SeriesInstanceUID", "destination"):
        text = content.get(key)
        if (text is not None or key in IDENTITY) and not (isinstance(text, str) and text.strip() and len(text) <= 64):
            raise RequestError(f"request: {key} is no text of 1 to 64 letters. Give the one of the series.")
    point = content["point"]
    if not (isinstance(point, (list, tuple)) and len(point) == 3 and all(map(_is_number, point))):
        raise RequestError("request: point is not three numbers; expected x, y, z in mm, LPS as in DICOM.")
    days = content.get("interval_days", 365)
    if not _is_number(days) or days < 1:
        raise RequestError("request: interval_days is no number of 1 or more.")
    if not isinstance(content["record"], dict):
        raise RequestError("request: record is no object of features.")
    try:
        record = validate(content["record"])
    except UserError as error:  # whose message has the value
        raise RequestError("request: record has a feature that is unknown or a value that is none of it.") from error
    return Request(
        identity={key: content[key].strip() for key in IDENTITY},
        point=(float(point[0]), float(point[1]), float(point[2])),
        record=record,
        interval_days=float(days),
        series_uid=content.get("SeriesInstanceUID"),
        destination=content.get("destination"),
    )


def check_identity(request: Request, series: Path) -> None:
    """Whether every slice of a series is of the request's patient, study, frame of reference and evidence.

    Raises:
        RequestError: which of them differs, without its value.
        DataError: the series cannot be read.
    """
    tags = ["SpecificCharacterSet", "SeriesInstanceUID", *IDENTITY]
    with quiet():
        for path in open_series(series, request.series_uid).paths:
            item = read_whole(path, stop_before_pixels=True, specific_tags=tags)
            for key, expected in request.identity.items():
                if str(item.get(key, "")).strip() != expected:
                    raise RequestError(f"request: {key} is not that of the series; expected the same. Ask again.")
            if request.evidence and str(item.get("SeriesInstanceUID", "")).strip() not in request.evidence:
                raise RequestError("request: its evidence names another series; expected that of the scan. Ask again.")


def _read(path: Path) -> dict[str, Any]:
    """The object in a JSON file, each key once."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key stands twice")
        return found

    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError("too large")
        content = json.loads(text, object_pairs_hook=once)
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"request: not readable JSON of at most {LARGEST} bytes, each key once.") from error
    if not isinstance(content, dict):
        raise RequestError("request: no object; expected one with keys.")
    return content


def _is_number(value: Any) -> bool:
    """Whether a value is a number of a size that places and days have; whole numbers may be longer than any float."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e6
