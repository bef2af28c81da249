"""The Brock (PanCan) model: the risk that a nodule of a first screening CT is malignant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from scripts.ehr.features import FEATURES, RELATIVES, validate

SOLID, GROUND_GLASS, PART_SOLID = 1, 2, 3
"""The trial's codes of ``sct_pre_att``."""

FEMALE, SPICULATED = 2, 1
"""The trial's codes of ``gender`` and ``sct_margins``."""

UPPER_LOBES = (1, 4)
"""Codes of ``sct_epi_loc`` that count as upper lobe; the lingula is a code of its own and does not."""


def risk(
    *,
    age: ArrayLike,
    female: ArrayLike,
    family_history: ArrayLike,
    emphysema: ArrayLike,
    diameter: ArrayLike,
    attenuation: ArrayLike,
    upper_lobe: ArrayLike,
    count: ArrayLike,
    spiculated: ArrayLike,
) -> NDArray[np.float64]:
    """Probability of cancer, model 2b (full, with spiculation).

    Source: McWilliams A, Tammemagi MC, Mayo JR, et al. Probability of cancer in pulmonary nodules detected on first
    screening CT. N Engl J Med 2013;369:910-919, Table 2. The coefficients stand once more, with the centring of age,
    size and count worked into the constant (0.2761), in Eur Radiol 2019;29:5367-5377, Table 2.

    Args:
        age: years.
        female, family_history, emphysema, upper_lobe, spiculated: 0 or 1.
        diameter: longest, mm.
        attenuation: code of ``sct_pre_att``; all but 2 and 3 count as solid.
        count: nodules of the patient.
    """
    attenuation = np.asarray(attenuation)
    log_odds = (
        -6.7892
        + 0.0287 * (np.asarray(age) - 62.0)
        + 0.6011 * np.asarray(female)
        + 0.2961 * np.asarray(family_history)
        + 0.2953 * np.asarray(emphysema)
        - 5.3854 * ((np.asarray(diameter) / 10.0) ** -0.5 - 1.58113883)
        - 0.1276 * (attenuation == GROUND_GLASS)
        + 0.3770 * (attenuation == PART_SOLID)
        + 0.6581 * np.asarray(upper_lobe)
        - 0.0824 * (np.asarray(count) - 4.0)
        + 0.7729 * np.asarray(spiculated)
    )
    return np.asarray(expit(log_odds), dtype=np.float64)


def at_most(ehr: Mapping[str, Any]) -> float | None:
    """The largest risk of a record, which a single nodule has: the number of nodules is no feature of the record.

    With each further nodule of the patient the risk is smaller.

    Args:
        ehr: see :func:`scripts.ehr.validate`.

    Returns:
        None where the record lacks an input, see :func:`lacking`.

    Example:
        >>> record = {"age": 62, "gender": 1, "diagemph": 0, "sct_long_dia": 8, "sct_pre_att": 1, "sct_margins": 2}
        >>> record |= {"sct_epi_loc": 3, "famfather": 0, "fammother": 1}
        >>> lacking(record), round(at_most(record), 4)
        ([], 0.0229)
    """
    if lacking(ehr):
        return None
    known = validate(ehr)
    found = risk(
        age=known["age"],
        female=known["gender"] == FEMALE,
        family_history=any(known.get(name) == 1 for name in RELATIVES),
        emphysema=known["diagemph"],
        diameter=known["sct_long_dia"],
        attenuation=known["sct_pre_att"],
        upper_lobe=known["sct_epi_loc"] in UPPER_LOBES,
        count=1,
        spiculated=known["sct_margins"] == SPICULATED,
    )
    return float(found)


def lacking(ehr: Mapping[str, Any]) -> list[str]:
    """The model's inputs that a record lacks, in words; the number of nodules, which all lack, is not among them.

    Lung cancer in the family is known where one relative had it, or where none of them had.
    """
    known = validate(ehr)
    needed = ("age", "gender", "diagemph", "sct_long_dia", "sct_pre_att", "sct_epi_loc", "sct_margins")
    absent = [FEATURES[name].description for name in needed if name not in known]
    family = [known.get(name) for name in RELATIVES]
    return absent + (["lung cancer in the family"] if 1 not in family and None in family else [])
