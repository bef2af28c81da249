"""A request as a DICOM structured report: a point in the patient, and the record as coded numbers.

Its title is (request, 99NAMD). It holds one SCOORD3D of type POINT, whose frame of reference is the series', and a NUM
for each feature of the record, coded by the feature's name in 99NAMD; ``interval_days`` likewise, each in its unit
(:data:`UNITS`). Patient and study are those of its header; the series is one that its evidence
(CurrentRequestedProcedureEvidenceSequence) names, if it names any. Nothing else in it is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from data_prep.cutting import Centre
from data_prep.images.headers import read_whole
from deploy.dicom_out.scheme import INTERVAL, SCHEME, own_code
from deploy.dicom_out.write import quiet
from deploy.request import Request, RequestError, make_request
from scripts.ehr.features import FEATURES

TITLE = "request"
"""The code of the report's title."""

DAYS = INTERVAL[0]

UNITS = {name: {"mm": "mm", "years": "a"}.get(each.unit, "1") for name, each in FEATURES.items()} | {DAYS: "d"}
"""By the code of a number its unit, by UCUM's code."""

MOST_ITEMS, DEEPEST, LARGEST = 200, 8, 1 << 20
"""Content items, nesting, and bytes of a file."""


def read_request_sr(path: Path) -> Request:
    """A request from a structured report.

    Raises:
        RequestError: it is no such report, or what is wrong with it.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise RequestError(f"request: a report of more than {LARGEST} bytes.")
        with quiet():
            return _request(read_whole(path))
    except RequestError:
        raise
    except Exception as error:  # pydicom raises what it likes, with values in it
        raise RequestError("request: not readable as a DICOM structured report.") from error


def _request(item: Dataset) -> Request:
    if item.get("Modality") != "SR" or _code(item.get("ConceptNameCodeSequence")) != TITLE:
        raise RequestError(f"request: no structured report titled ({TITLE}, {SCHEME}).")
    points, numbers = [], {}
    for each in _items(item, 0, [MOST_ITEMS]):
        kind, name = each.get("ValueType"), _code(each.get("ConceptNameCodeSequence")).strip().lower()
        if kind == "SCOORD3D" and each.get("GraphicType") == "POINT":
            points.append(each)
        elif kind == "NUM" and name:
            if name in numbers:
                raise RequestError("request: a number stands twice; expected each feature once.")
            numbers[name] = _number(name, each.MeasuredValueSequence[0])
    if len(points) != 1:
        raise RequestError(f"request: {len(points)} points (SCOORD3D); expected one.")
    content: dict[str, Any] = {
        "PatientID": str(item.get("PatientID", "")),
        "StudyInstanceUID": str(item.get("StudyInstanceUID", "")),
        "FrameOfReferenceUID": str(points[0].get("ReferencedFrameOfReferenceUID", "")),
        "point": [float(each) for each in points[0].GraphicData],
        **({DAYS: numbers.pop(DAYS)} if DAYS in numbers else {}),
        "record": numbers,
    }
    return replace(make_request(content), evidence=_evidence(item))


def _number(name: str, measured: Dataset) -> float:
    """A value in the unit that its name has; a name that is none of ours is refused with the record."""
    unit = _code(measured.get("MeasurementUnitsCodeSequence"), "UCUM")
    if name in UNITS and unit != UNITS[name]:
        found = unit if re.fullmatch("[A-Za-z0-9]{1,16}", unit) else "no unit of UCUM"  # repeats no other text
        raise RequestError(f"request: {name} is in {found}; expected {UNITS[name]}, by UCUM.")
    return float(measured.NumericValue)


def _evidence(item: Dataset) -> frozenset[str]:
    """SeriesInstanceUID of each series that a report says it was made of."""
    studies = item.get("CurrentRequestedProcedureEvidenceSequence") or ()
    series = [each for study in studies for each in study.get("ReferencedSeriesSequence") or ()]
    return frozenset(str(each.get("SeriesInstanceUID", "")).strip() for each in series) - {""}


def _items(item: Dataset, depth: int, left: list[int]) -> Iterator[Dataset]:
    """All content items below one, as many and as deep as a request can be."""
    for each in item.get("ContentSequence") or ():
        left[0] -= 1
        if left[0] < 0 or depth > DEEPEST:
            raise RequestError(f"request: more than {MOST_ITEMS} content items, or nested deeper than {DEEPEST}.")
        yield each
        yield from _items(each, depth + 1, left)


def _code(sequence: Any, scheme: str = SCHEME) -> str:
    """The value of a code in a scheme; empty of another."""
    if not sequence or sequence[0].get("CodingSchemeDesignator") != scheme:
        return ""
    return str(sequence[0].get("CodeValue", ""))


def make_request_sr(slice_: Dataset, point: Centre, record: Mapping[str, float], interval_days: float = 365) -> Dataset:
    """The report that asks for a nodule of a series, as planning software would write it.

    Args:
        slice_: any slice of the series.
        point, record, interval_days: see :class:`deploy.request.Request`.
    """
    from highdicom.sr import (
        CodedConcept,
        Comprehensive3DSR,
        ContainerContentItem,
        ImageContentItem,
        NumContentItem,
        RelationshipTypeValues,
        Scoord3DContentItem,
    )
    from highdicom.uid import UID

    contains = RelationshipTypeValues.CONTAINS
    root = ContainerContentItem(own_code(TITLE, "Follow-up of a nodule requested"), is_content_continuous=False)
    named = {name: FEATURES[name].description[:64] for name in record} | dict([INTERVAL])
    root.ContentSequence = Sequence(
        [
            Scoord3DContentItem(
                own_code("point", "Nodule's centre"),
                "POINT",
                _row(point),
                slice_.FrameOfReferenceUID,
                relationship_type=contains,
            ),
            ImageContentItem(
                own_code("slice", "Slice"), slice_.SOPClassUID, slice_.SOPInstanceUID, relationship_type=contains
            ),
            *(
                NumContentItem(
                    own_code(name, named[name]),
                    float(value),
                    CodedConcept(UNITS[name], "UCUM", UNITS[name]),
                    relationship_type=contains,
                )
                for name, value in {**record, DAYS: interval_days}.items()
            ),
        ]
    )
    return Comprehensive3DSR(
        evidence=[slice_],
        content=root,
        series_instance_uid=UID(),
        series_number=1,
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="planning software",
    )


def _row(point: Centre) -> Any:
    import numpy as np

    return np.array([point], dtype=float)
