"""Thresholds are those of the validation section, or given, or left out with the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scripts.errors import UserError
from scripts.evaluation.report.clinical_view import RULE_TITLES
from scripts.evaluation.statistics.thresholds import RULES, fixed_thresholds
from scripts.evaluation.validation import validation_thresholds
from tests.bundle.helpers import refusal

LABELS = [0, 1, 0, 1, None]
CASES = [{"case_id": str(index), "malignant": label} for index, label in enumerate(LABELS)]
RUNS = np.array([[0.1, 0.4, 0.3, 0.9, 0.5], [0.3, 0.2, 0.3, 0.7, 0.5]])


def absent(cases: Any) -> np.ndarray:
    raise UserError("there are no predictions")


def thresholds(
    section: str = "test", cases: Any = CASES, given: dict[str, Any] | None = None, published: Any = None
) -> dict[str, Any]:
    readers = {"NAMD": lambda cases: RUNS[:, [int(case["case_id"]) for case in cases]], "other": absent}
    return validation_thresholds({"validation": cases}, section, readers, given or {}, published)


def test_they_are_of_probabilities_averaged_over_runs() -> None:
    found = thresholds()
    expected = fixed_thresholds(RUNS.mean(axis=0), np.array([0, 1, 0, 1, np.nan]))
    assert found == {"NAMD": expected, "other": "there are no predictions"}
    assert expected["sensitive"] == pytest.approx(0.3)


def test_a_given_one_is_taken_whatever_there_is() -> None:
    assert thresholds("validation", [], {"other": 0.25})["other"] == {"given": 0.25}


def test_those_of_the_weights_are_taken_where_there_is_no_validation_section() -> None:
    """Under names that say so; not where the dataset has cases of its own to fix them on, nor before a given one."""
    published = {"NAMD": {"sensitive": 0.2, "youden": 0.4}, "other": {"youden": 0.6}}
    found = thresholds(cases=[], given={"other": 0.25}, published=published)
    assert found == {"NAMD": {"published_sensitive": 0.2, "published_youden": 0.4}, "other": {"given": 0.25}}
    assert found["NAMD"].keys() <= RULES.keys() and found["NAMD"].keys() <= RULE_TITLES.keys()
    assert thresholds(published=published) == thresholds()
    assert "the one on which thresholds are fixed" in thresholds("validation", [], published=published)["NAMD"]


@pytest.mark.parametrize(
    ("section", "cases", "said"),
    [
        ("validation", CASES, "the evaluated section is the one on which thresholds are fixed"),
        ("test", [], "the dataset has no validation section, and none were published with the weights"),
        ("test", CASES[:1], "in the validation section all cases with a known outcome are benign"),
    ],
)
def test_where_there_is_none_the_reason_stands(section: str, cases: Any, said: str) -> None:
    assert thresholds(section, cases) == {"NAMD": said, "other": said}


@pytest.mark.parametrize(
    ("given", "said"),
    [({"mine": 0.3}, "mine is no method here; expected some of NAMD, other"), ({"NAMD": 30}, "30, expected a number")],
)
def test_others_are_refused(given: dict[str, Any], said: str) -> None:
    assert said in refusal(lambda: thresholds(given=given))
