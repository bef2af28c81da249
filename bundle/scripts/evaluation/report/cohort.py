"""A dataset in numbers: cases, patients, outcomes and nodules of each section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scripts.data.datalist import SECTIONS
from scripts.ehr.features import validate


def describe(datalist: Mapping[str, Any], evaluated: str) -> dict[str, Any]:
    """The entry `cohort` of metrics.json: counts and quartiles of each section.

    Ages and diameters are those at baseline. `unpaired` counts crops without a second timepoint, on which only
    autoencoder, unconditional stage and classifier are trained.

    Args:
        datalist: of :func:`scripts.data.load_datalist`.
        evaluated: name of the evaluated section.
    """
    sections = {name: _section(datalist[name]) for name in SECTIONS}
    return {"evaluated": evaluated, "unpaired": len(datalist.get("unpaired", [])), "sections": sections}


def _section(cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts and quartiles of one section."""
    outcomes = [case.get("malignant") for case in cases]
    records = [validate(case.get("ehr", {})) for case in cases]
    patients = {case["patient_id"]: record for case, record in zip(cases, records, strict=True)}
    genders = [record["gender"] for record in patients.values() if "gender" in record]
    return {
        "n_cases": len(cases),
        "n_patients": len(patients),
        "n_malignant": outcomes.count(1),
        "n_benign": outcomes.count(0),
        "n_unknown": sum(outcome not in (0, 1) for outcome in outcomes),
        "women": sum(gender == 2 for gender in genders) / len(genders) if genders else None,
        "age": quartiles([record.get("age") for record in patients.values()]),
        "long_mm": quartiles([record.get("sct_long_dia") for record in records]),
        "interval_days": quartiles([case.get("interval_days") for case in cases]),
    }


def quartiles(values: Sequence[float | None]) -> list[float] | None:
    """Lower quartile, median and upper quartile of the known values; None where there are none."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    return [float(value) for value in np.percentile(known, [25, 50, 75])] if known else None
