"""The condition as numbers: those of the regression's encoder, and the interval."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from scripts.comparators.contract import Condition
from scripts.comparators.numbers import ConditionNumbers
from scripts.ehr.encoding import record_numbers


def test_they_are_those_of_the_training_records(cohort: Path) -> None:
    """Against scikit-learn, which fits and transforms the same cases; gaps of the interval take the median."""
    cases = json.loads((cohort / "datalist.json").read_text())["training"]
    cases = [{**case, "interval_days": (None, 180, 365, 400)[index % 4]} for index, case in enumerate(cases)]
    numbers = ConditionNumbers.of([Condition.of(case) for case in cases])
    found, theirs = numbers([Condition.of(case) for case in cases]).numpy(), record_numbers(cases)
    width = found.shape[1]
    assert numbers.width == width
    np.testing.assert_allclose(found[:, :-1], theirs[:, : width - 1], atol=1e-5)
    known = np.array([index % 4 > 0 for index in range(len(cases))])
    assert np.corrcoef(found[known, -1], theirs[known, width - 1])[0, 1] > 0.9999
    assert abs(found[known, -1].mean()) < 1e-6 and abs(found[known, -1].std() - 1) < 1e-5
    again = ConditionNumbers(**json.loads(json.dumps(numbers.config)))
    case = [Condition({"age": 50.0}, None)]
    assert np.array_equal(again(case), numbers(case)) and np.isfinite(again(case)).all()
    assert np.isfinite(ConditionNumbers.of([Condition({}, None)] * 2)(case)).all()
