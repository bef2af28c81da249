"""One case whose result goes back where its scan came from: the core, and DICOM objects of what it says."""

from __future__ import annotations

from collections.abc import Mapping
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
    series: Path,
    point: Centre,
    record: Mapping[str, Any],
    *,
    secret: Path | None = None,
    interval_days: float = 365,
    models_dir: Path | None = None,
    series_uid: str | None = None,
    **settings: Any,
) -> Asked:
    """Reads what objects need of a series, before anything is generated.

    Args:
        secret: file of the site's secret; None: its usual place.
        series, point, record, interval_days, models_dir, series_uid, settings: of :func:`deploy.case.predict`.

    Raises:
        DataError: no DICOM series, or one to which no object can refer.
        UserError: of the record or the secret.
    """
    with quiet():
        source = open_source(series, point, series_uid)
    known, models = validate(record), case.models_of(models_dir)
    series_ = source.image.SeriesInstanceUID
    return Asked(source, case_key(read_secret(secret), models, series_, point, known, interval_days, settings))


def predict(
    series: Path,
    point: Centre,
    record: Mapping[str, Any],
    out: Path,
    dicom: Path,
    *,
    secret: Path | None = None,
    with_slice: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """:func:`deploy.case.predict`, and its result as DICOM objects.

    Args:
        dicom: the folder of objects; where it holds those of the same case, their bytes stay.
        secret: file of the site's secret; None: its usual place.
        with_slice: also write the slice of CT with a follow-up in it.
        options: of :func:`deploy.case.predict`.

    Returns:
        The content of ``result.json``.

    Raises:
        DataError, UserError: as :func:`deploy.case.predict` and :func:`ask`, before torch is imported.
    """
    wanted = {name: value for name, value in options.items() if name != "transform"}
    asked = ask(series, point, record, secret=secret, **wanted)
    refuse_other(dicom)
    result = case.predict(series, point, record, out, **options)
    from scripts.results import write_page  # draws

    write_page(out / case.CASE, out / f"{case.CASE}.nii.gz")
    write_objects(asked.source, out / case.CASE, dicom, asked.key, with_slice)
    return result
