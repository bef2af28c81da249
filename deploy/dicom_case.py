"""One case whose result goes back where its scan came from: the core, and DICOM objects of what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.cutting import Centre
from deploy import case
from deploy.dicom_out.keys import case_key, read_secret
from deploy.dicom_out.source import Source, open_source
from deploy.dicom_out.write import quiet, refuse_other, write_objects
from scripts.ehr.features import validate


@dataclass(frozen=True)
class Asked:
    """A case that can be begun, as far as its DICOM objects are concerned.

    Attributes:
        source: the slice that the point lies in.
        key: by which the result is known, see :func:`deploy.dicom_out.keys.case_key`.
    """

    source: Source
    key: str


def ask(
    predictor: case.Predictor,
    series: Path,
    point: Centre,
    record: Mapping[str, Any],
    *,
    secret: Path | None = None,
    interval_days: float = 365,
    series_uid: str | None = None,
) -> Asked:
    """Reads what objects need of a series, before anything is generated.

    Args:
        predictor: by which the case would be generated.
        series, point, record, interval_days, series_uid: of :meth:`deploy.case.Predictor.predict`.
        secret: file of the site's secret; None: its usual place.

    Raises:
        DataError: no DICOM series, or one to which no object can refer.
        UserError: of the record or the secret.
    """
    with quiet():
        source = open_source(series, point, series_uid)
    known, site = validate(record), (read_secret(secret), predictor.models)
    return Asked(source, case_key(*site, source.identifiers, point, known, interval_days, predictor.settings))


def predict(
    predictor: case.Predictor,
    series: Path,
    point: Centre,
    record: Mapping[str, Any],
    out: Path,
    dicom: Path,
    *,
    secret: Path | None = None,
    with_slice: bool = False,
    progress: Callable[[float], None] | None = None,
    **which: Any,
) -> dict[str, Any]:
    """:meth:`deploy.case.Predictor.predict`, and its result as DICOM objects.

    Args:
        dicom: the folder of objects; where it holds those of the same case, their bytes stay.
        secret: file of the site's secret; None: its usual place.
        with_slice: also write the slice of CT with a follow-up in it.
        which: ``interval_days`` and ``series_uid``.
        predictor, series, point, record, out, progress: of :meth:`deploy.case.Predictor.predict`.

    Returns:
        The content of ``result.json``.

    Raises:
        DataError, UserError: as :meth:`deploy.case.Predictor.predict` and :func:`ask`, before torch is imported.
    """
    asked = ask(predictor, series, point, record, secret=secret, **which)
    refuse_other(dicom)
    result = predictor.predict(series, point, record, out, progress=progress, **which)
    from scripts.results import write_page  # draws

    write_page(out / case.CASE, out / f"{case.CASE}.nii.gz", asked.source.place)
    write_objects(asked.source, out / case.CASE, dicom, asked.key, with_slice)
    return result
