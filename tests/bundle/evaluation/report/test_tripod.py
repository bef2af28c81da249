"""TRIPOD+AI: every item stands in the file once, filled in or left to the authors."""

from __future__ import annotations

import re
from typing import Any

from scripts.evaluation.report.tripod import ITEMS, answers, tripod


def test_every_item_stands_there_once(outcome: Any) -> None:
    _, result, folder = outcome
    text = (folder / "tripod_ai.md").read_text()
    assert text == tripod(result)
    filled, left = re.findall(r"^\| (\d+\w?) \|", text, flags=re.M), re.findall(r"^- (\d+\w?): ", text, flags=re.M)
    assert sorted(filled + left) == sorted(ITEMS) and len(ITEMS) == 52
    assert {number.rstrip("abcdefg") for number in ITEMS} == {str(number) for number in range(1, 28)}


def test_numbers_are_those_of_the_evaluation(outcome: Any) -> None:
    _, result, _ = outcome
    found = answers(result)
    assert found["21"] == "12 cases of 6 patients: 4 malignant, 8 benign, 0 with an unknown outcome"
    score = result["methods"]["real_follow_up"]["auroc"]
    assert f"Follow-up of the data set {score['mean']:.3f} [{score['ci95'][0]:.3f}, " in found["23a"]
    assert result["simulation"] in found["5a"] and result["added_value"]["reason"] in found["26"]
    cohort = {"evaluated": "test", "sections": {"training": {"n_cases": 0}, "test": {"n_cases": 12}}}
    assert answers({**result, "cohort": cohort})["12a"] == "training 0, test 12; evaluated: test; no patient is in two"


def test_no_text_breaks_the_table(outcome: Any) -> None:
    _, result, _ = outcome
    text = answers({**result, "dataset": "a | b\nc"})["5a"]
    assert text.startswith("dataset a / b c")
