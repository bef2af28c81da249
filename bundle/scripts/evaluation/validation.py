"""Thresholds that are fixed before the evaluated cases are seen: on validation, with the weights, or given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from scripts.arrays import Array
from scripts.data.datalist import outcome
from scripts.errors import UserError
from scripts.evaluation.statistics.metrics import why_undefined
from scripts.evaluation.statistics.thresholds import PUBLISHED, fixed_thresholds

SECTION = "validation"
"""Thresholds are fixed on this section."""


def validation_thresholds(
    datalist: Mapping[str, Any],
    section: str,
    readers: Mapping[str, Callable[[Sequence[Mapping[str, Any]]], Array]],
    given: Mapping[str, float],
    published: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, dict[str, float] | str]:
    """The thresholds of each method by rule (:data:`scripts.evaluation.statistics.thresholds.RULES`), or why none.

    Args:
        datalist: of the dataset.
        section: the evaluated one.
        readers: by method, gives its probabilities (R, V) of the validation section's cases, or raises a
            :class:`UserError` that says why there are none.
        given: by method, a threshold to take instead.
        published: by method, thresholds by rule that were published with the weights; they are taken where the dataset
            has no validation section, each under its rule's name after :data:`PUBLISHED`.

    Raises:
        UserError: a threshold is given for no method, or is no probability.
    """
    if odd := sorted(given.keys() - readers.keys()):
        raise UserError(f"thresholds: {', '.join(odd)} is no method here; expected some of {', '.join(readers)}.")
    for name, value in given.items():
        if not (isinstance(value, (int, float)) and 0 < value < 1):
            raise UserError(f"thresholds: that of {name} is {value!r}, expected a number between 0 and 1.")
    cases = datalist[SECTION]
    labels = np.array([outcome(case) for case in cases])
    reason = why_undefined(labels)
    if section == SECTION:
        reason = "the evaluated section is the one on which thresholds are fixed"
    elif not cases:
        reason = "the dataset has no validation section, and none were published with the weights"
    elif reason is not None:
        reason = f"in the validation section {reason}"
    found: dict[str, dict[str, float] | str] = {}
    for name, read in readers.items():
        if name in given:
            found[name] = {"given": float(given[name])}
        elif section != SECTION and not cases and name in (published or {}):
            found[name] = {PUBLISHED + rule: limit for rule, limit in (published or {})[name].items()}
        elif reason is not None:
            found[name] = reason
        else:
            try:
                found[name] = fixed_thresholds(read(cases).mean(axis=0), labels)
            except UserError as error:
                found[name] = str(error)
    return found
