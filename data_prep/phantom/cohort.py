"""Makes the whole phantom: scans, tables, and the cohort table joined from these."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray
from rich.progress import track

from data_prep.errors import DataError
from data_prep.nlst.join import join_files
from data_prep.phantom.anatomy import Chest
from data_prep.phantom.lesion import Lesion
from data_prep.phantom.patients import A_YEAR, RIGHT, Patient, draw_patients
from data_prep.phantom.scanner import scan
from data_prep.phantom.tables import Finding, tables, truth
from data_prep.phantom.writer import write_series
from data_prep.schema import KEY
from scripts.files import write_atomically

LEVEL_MM = {1: -80.0, 4: -80.0, 2: -150.0, 5: -150.0, 3: -200.0, 6: -200.0}
"""Height of the lobes in the scanner, by code of ``sct_epi_loc``."""

README = """SIMULATED DATA. No patient was scanned for this.

A longitudinal lung screening cohort of {patients} patients, drawn by NAMD's phantom (seed {seed}): nodules and people
from published distributions, outcomes from the Brock model enriched to about 28 % malignant, growth from published
volume doubling times, follow-ups after {months} months. For tests and demonstrations; it says nothing about the
accuracy of a model on patients.

dicom/PATIENT/T0|T1   one CT series each, some slices about the nodules
tables/               prsn, ctab, canc as the National Lung Screening Trial has them; positions: nodule centres, mm, LPS
cohort.csv            the tables joined, for `python -m data_prep cohort cohort.csv --out DATASET`
"""


SHORTEST, LONGEST = 3.0, 36.0
"""Months to the follow-up."""


def months_of(text: str) -> tuple[float, float]:
    """Months to the follow-up as the command line gives them: one number, or two with a hyphen between.

    >>> months_of("12"), months_of("3-36")
    ((12.0, 12.0), (3.0, 36.0))

    Raises:
        DataError: it is neither, or is below 3 or above 36.
    """
    try:
        ends = [float(part) for part in text.split("-")]
    except ValueError:
        ends = []
    if len(ends) not in (1, 2) or not SHORTEST <= ends[0] <= ends[-1] <= LONGEST:
        raise DataError(
            f"--months {text}: expected months to the follow-up, {SHORTEST:g} to {LONGEST:g}, one number as 12 or two "
            "as 3-36."
        )
    return ends[0], ends[-1]


def make(out: Path, patients: int = 64, seed: int = 0, months: tuple[float, float] = A_YEAR, workers: int = 1) -> None:
    """Writes a phantom cohort; the same arguments give the same bytes.

    Args:
        out: a new folder, or one with an older phantom, which is replaced.
        patients: how many.
        seed: of all that is drawn.
        months: to the follow-up, see :func:`data_prep.phantom.patients.draw_patients`. Where they vary, the cohort
            table has days and no study years, so that pairs are of any interval.
        workers: processes that scan.

    Raises:
        DataError: ``out`` holds something else, or there are no patients.
    """
    if patients < 1:
        raise DataError(f"--patients {patients}: expected 1 or more.")
    if out.exists() and not (out / "tables" / "positions.csv").is_file() and (out.is_file() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is no phantom. Name another folder, or remove it.")
    people = draw_patients(patients, seed, months)
    varied = months[0] < months[1]
    with write_atomically(out) as folder, ProcessPoolExecutor(workers) as pool:
        scanned = (pool.map if workers > 1 else map)(partial(_scan_patient, folder=folder, seed=seed), people)
        findings = [
            finding
            for of_patient in track(scanned, description="Scanning the phantom", total=patients)
            for finding in of_patient
        ]
        (folder / "tables").mkdir(parents=True)
        for name, table in tables(people, findings, seed).items():
            _write_csv(table, folder / "tables" / f"{name}.csv")
        marked = join_files(folder / "tables", varied).assign(
            simulated=f"Simulated by NAMD's phantom, seed {seed}: no patient"
        )
        names = marked[[*KEY]].astype(str).set_axis(marked.index)
        known = names.merge(truth(people), on=[*KEY], how="left").drop(columns=[*KEY]).set_axis(marked.index)
        _write_csv(pd.concat([marked, known], axis=1), folder / "cohort.csv")
        words = {"patients": patients, "seed": seed, "months": "-".join(f"{each:g}" for each in dict.fromkeys(months))}
        (folder / "README.txt").write_text(README.format(**words), encoding="utf-8", newline="\n")


def _scan_patient(patient: Patient, folder: Path, seed: int) -> list[Finding]:
    """Both scans of a patient, written; returns what a reader finds in them."""
    chest = Chest(patient, np.random.default_rng([seed, patient.pid, 3]))
    rng = np.random.default_rng([seed, patient.pid, 4])
    place, pixel = _place(patient, rng), rng.uniform(0.62, 0.78)
    findings = []
    for year, days in ((0, 0), (1, patient.days)):
        lesions = [
            Lesion(nodule, nodule.growth if year else 1.0, np.random.default_rng([seed, patient.pid, 5, nodule.number]))
            for nodule in patient.nodules
            if year == 0 or nodule.growth > 0
        ]
        if days is None or not lesions:
            continue
        drift = 0.0 if year == 0 else rng.normal(0.0, 0.015)  # the field of view is set anew each time
        view = np.random.default_rng([seed, patient.pid, 6 + year])
        made = scan(chest, lesions, place, round(pixel + drift, 3), view)
        image = f"dicom/{patient.pid}/T{year}"
        write_series(made, patient, year, days, seed, folder / image)
        for lesion, centre in zip(lesions, made.centres, strict=True):
            number = len(made.hu) - round((centre[2] - made.origin[2]) / made.spacing[1])
            findings.append(Finding(patient, lesion.nodule, year, centre, number, image))
    return findings


def _place(patient: Patient, rng: Generator) -> NDArray[np.float64]:
    """Where the first nodule is in the scanner, mm, LPS: the patient's right is negative x."""
    lobe = patient.nodules[0].location
    side = -1.0 if lobe in RIGHT else 1.0
    spread = rng.uniform([50.0, -45.0, -25.0], [100.0, 45.0, 25.0])
    return spread * [side, 1.0, 1.0] + [0.0, 0.0, LEVEL_MM[lobe]]


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, lineterminator="\n")
