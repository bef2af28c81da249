"""The phantom's tables, with the trial's columns and codes and its gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from data_prep.nlst.tables import CANCER_SITES
from data_prep.phantom.growth import RESOLVED, probability
from data_prep.phantom.patients import Nodule, Patient
from data_prep.progression.growth import DECIMALS
from data_prep.schema import KEY, TRUTH

SHARE_MISSING = {"diagemph": 0.06, "famsister": 0.04, "famchild": 0.04, "sct_perp_dia": 0.03}
UNDETERMINED_MARGINS = 0.05
A_YEAR_LATER = 425
"""The last day of a screen that is due after a year, from the first."""
TOPOGRAPHY = {1: "C34.1", 2: "C34.2", 3: "C34.3", 4: "C34.1", 5: "C34.1", 6: "C34.3"}


@dataclass(frozen=True)
class Finding:
    """A nodule as it is seen in one scan.

    Attributes:
        patient, nodule: whose, which.
        year: 0 or 1.
        centre: mm, LPS.
        slice_number: counted from the head, from 1.
        image: the series' folder, relative to the phantom's.
    """

    patient: Patient
    nodule: Nodule
    year: int
    centre: NDArray[np.float64]
    slice_number: int
    image: str


def tables(patients: Sequence[Patient], findings: Sequence[Finding], seed: int) -> dict[str, pd.DataFrame]:
    """``prsn``, ``ctab``, ``canc`` and ``positions``; every row says that it is simulated."""
    rng = np.random.default_rng([seed, 77])
    numbers = _abnormality_numbers(findings, rng)
    made = {
        "prsn": pd.DataFrame([_person(patient, rng) for patient in patients]),
        "ctab": pd.DataFrame(_abnormalities(findings, numbers, rng)),
        "canc": pd.DataFrame(
            [_cancer(patient, nodule, rng) for patient in patients for nodule in patient.nodules if nodule.malignant],
            columns=["pid", "lc_topog", "study_yr", "candx_days", "first_lc"],
        ),
        "positions": pd.DataFrame(
            [_position(finding, number) for finding, number in zip(findings, numbers, strict=True)]
        ),
    }
    mark = f"SIMULATED (NAMD phantom, seed {seed})"
    return {name: table.assign(dataset_version=mark) for name, table in made.items()}


def _abnormality_numbers(findings: Sequence[Finding], rng: Generator) -> list[int]:
    """``sct_ab_num`` counts a screen's abnormalities in any order: it does not follow a nodule through the years."""
    numbers: dict[tuple[int, int], list[int]] = {}
    for finding in findings:
        numbers.setdefault((finding.patient.pid, finding.year), []).append(0)
    free = {key: list(rng.permutation(len(count)) + 1) for key, count in numbers.items()}
    return [int(free[finding.patient.pid, finding.year].pop()) for finding in findings]


def _person(patient: Patient, rng: Generator) -> dict[str, object]:
    """A row of ``prsn``."""
    row: dict[str, object] = {"pid": patient.pid, "age": patient.age, "gender": patient.gender}
    row |= {"diagemph": patient.emphysema, **patient.family}
    row |= {name: ".M" for name, share in SHARE_MISSING.items() if name in row and rng.uniform() < share}
    sites = {nodule.location for nodule in patient.nodules if nodule.malignant}
    row |= {column: int(lobe in sites) if sites else ".N" for lobe, column in CANCER_SITES.items()}
    first = int(rng.integers(3, 40))
    return row | {"scr_days0": first, "scr_days1": ".N" if patient.days is None else first + patient.days}


def _abnormalities(findings: Sequence[Finding], numbers: Sequence[int], rng: Generator) -> list[dict[str, object]]:
    """Rows of ``ctab``: the nodules and, after them, emphysema where a screen shows it."""
    rows = [_nodule(finding, number, rng) for finding, number in zip(findings, numbers, strict=True)]
    screens = {(finding.patient.pid, finding.year): finding.patient for finding in findings}
    for (pid, year), patient in screens.items():
        if patient.emphysema:
            empty = {name: ".N" for name in rows[0] if name.startswith("sct_") and name != "sct_ab_num"}
            rows.append(
                {"pid": pid, "study_yr": year, "sct_ab_num": len(patient.nodules) + 1, **empty, "sct_ab_desc": 59}
            )
    return sorted(rows, key=lambda row: (row["pid"], row["study_yr"], row["sct_ab_num"]))


def _nodule(finding: Finding, number: int, rng: Generator) -> dict[str, object]:
    """A row of ``ctab``: whole millimetres, and what the reader could not tell."""
    nodule = finding.nodule
    scale = nodule.growth if finding.year else 1.0
    longest, across = (max(1, round(scale * diameter)) for diameter in nodule.diameters)
    return {
        "pid": finding.patient.pid,
        "study_yr": finding.year,
        "sct_ab_num": number,
        "sct_ab_desc": 51,
        "sct_pre_att": nodule.attenuation,
        "sct_epi_loc": nodule.location,
        "sct_long_dia": longest,
        "sct_perp_dia": ".S" if rng.uniform() < SHARE_MISSING["sct_perp_dia"] else across,
        "sct_margins": 9 if rng.uniform() < UNDETERMINED_MARGINS else nodule.margins,
        "sct_slice_num": finding.slice_number,
    }


def _cancer(patient: Patient, nodule: Nodule, rng: Generator) -> dict[str, object]:
    """A row of ``canc``: found after the second screen."""
    screen = patient.days or 0
    days = (400 if screen <= A_YEAR_LATER else screen + 40) + int(rng.integers(0, 300))
    return {
        "pid": patient.pid,
        "lc_topog": TOPOGRAPHY[nodule.location],
        "study_yr": days // 365,
        "candx_days": days,
        "first_lc": int(nodule.number == min(other.number for other in patient.nodules if other.malignant)),
    }


def _position(finding: Finding, number: int) -> dict[str, object]:
    """Where the nodule is, mm, LPS, and in which series."""
    x, y, z = (round(float(value), 2) for value in finding.centre)
    key = {"pid": finding.patient.pid, "study_yr": finding.year, "sct_ab_num": number}
    return {**key, "nodule_id": finding.nodule.number, "image": finding.image, "x": x, "y": y, "z": z}


def truth(patients: Sequence[Patient]) -> pd.DataFrame:
    """What the simulation knows of each pair and no model may read: :data:`data_prep.schema.TRUTH`.

    The oracle knows all that a nodule's risk was computed from, diameters unrounded and gaps filled, and that the
    nodule was seen again, which resolved ones are not.
    """
    rows: list[list[object]] = []
    for patient in patients:
        for nodule in patient.nodules:
            if patient.days is None or nodule.growth == 0:
                continue
            known = (nodule.attenuation, nodule.diameters[0], patient.days)
            benign, malignant = (float(probability(nodule.growth, outcome, *known)) for outcome in (False, True))
            row: list[object] = [str(patient.pid), str(nodule.number), round(nodule.growth, DECIMALS)]
            row += [_bayes(nodule.risk, 1.0 - RESOLVED, 1.0), _bayes(nodule.risk, benign, malignant)]
            rows.append(row)
    return pd.DataFrame(rows, columns=[*KEY, *TRUTH])


def _bayes(prior: float, benign: float, malignant: float) -> float:
    """Probability of malignancy after what is so likely under each outcome, with six decimals."""
    return round(prior * malignant / (prior * malignant + (1.0 - prior) * benign), 6)
