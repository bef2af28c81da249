"""What an evaluation needs of a section, checked before any work, and what it will have to leave out."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from scripts.data.datalist import SECTIONS, DatalistError, check_crop, load_datalist
from scripts.evaluation.statistics.folds import fewest_patients
from scripts.evaluation.statistics.metrics import why_undefined
from scripts.evaluation.study import Cases

logger = logging.getLogger(__name__)

FEW = 10
"""Patients with a malignant, or with a benign, case, below which the least is said."""


def check_section(dataset_dir: str | Path, section: str) -> list[str]:
    """Refuses a section that cannot be evaluated, and logs what its evaluation will leave out.

    Inference calls it too, so that nobody samples for half an hour before hearing of it. Sections that are not
    evaluated, such as those without follow-ups, pass.

    Returns:
        What will be left out, and why, a sentence each.

    Raises:
        DatalistError: the section is empty, two cases have one id, an outcome is none, or a follow-up cannot be read.
    """
    datalist = load_datalist(dataset_dir)
    if section not in SECTIONS:
        return []
    entries, folder = datalist[section], Path(dataset_dir)
    if not entries:
        raise DatalistError(f"{folder}: its {section} section is empty; name another with --section.")
    try:
        cases = Cases.of(entries)
    except ValueError as error:
        raise DatalistError(f"{folder / 'datalist.json'}: {section}: {error}.") from error
    for entry in entries:
        check_crop(folder / entry["follow_up"], image_size=1)
    absent = {name for name in SECTIONS if not datalist[name]}
    if missing := foreseen(cases, absent):
        logger.info(f"Evaluation of the {section} section leaves out: {'; '.join(missing)}.")
    return missing


def foreseen(cases: Cases, absent: set[str]) -> list[str]:
    """What an evaluation of these cases leaves out, and why.

    Args:
        absent: sections of the dataset that are empty.
    """
    found = []
    if reason := why_undefined(cases.labels):
        found.append(f"all scores of outcomes, for {reason}")
    elif (fewest := fewest_patients(cases.patients, cases.labels)) < FEW:
        found.append(
            f"some scores of outcomes, for fewer than {FEW} patients have a malignant, or a benign, case ({fewest})"
        )
    if len(set(cases.patients)) < 2:
        found.append("intervals, FID and KID, for there is one patient")
    if "training" in absent:
        found.append("the diameter read from latents, for there is no training section")
    if "validation" in absent:
        found.append("thresholds of its own, for there is no validation section (published ones are taken, if any)")
    if np.isnan(cases.diameters[:, 0]).all():
        found.append("growth against the record, for no diameter is recorded")
    return found
