"""The page's rows and sentences are the numbers of metrics.json."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.evaluation.report.clinical_view import added_sentence, benefits, clinical_view, subgroup_methods
from scripts.evaluation.report.columns import RECALIBRATION
from scripts.evaluation.report.html import render
from scripts.evaluation.statistics.decision_curve import SHOWN
from tests.bundle.evaluation.page import Page


def added(low: float, high: float) -> dict[str, Any]:
    return {
        "record": "fitted here",
        "auroc": {"record_and_baseline": {"mean": 0.7}, "with_generated": {"mean": 0.75}},
        "auroc_difference": {"mean": 0.05, "ci95": [low, high]},
        "net_benefit_difference": {"0.1": {"mean": 0.01, "ci95": [-0.01, 0.03]}},
        "likelihood_ratio": {"p": 1e-9},
    }


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.09, "They add to both."),
        (-0.01, 0.09, "Nothing is shown"),
        (-0.2, -0.1, "They make the prediction worse"),
    ],
)
def test_what_is_added_is_said_by_its_interval(low: float, high: float, said: str) -> None:
    sentence = added_sentence(added(low, high))
    assert sentence is not None and said in sentence and "from 0.700 to 0.750, by +0.050 [" in sentence
    assert "p < 0.001. Net benefit changes by +0.010 [-0.010, +0.030] at 10%." in sentence
    assert added_sentence({"reason": "too few"}) is None
    unknown = added_sentence(added(low, high) | {"auroc_difference": {"mean": 0.05, "ci95": None}})
    assert unknown is not None and "no interval" in unknown and "cannot be told" in unknown


def test_the_page_has_every_part(outcome: Any) -> None:
    _, result, folder = outcome
    page = Page((folder / "report.html").read_text())
    flat = " ".join(page.text.split())
    assert f"Not given: {result['added_value']['reason']}." in flat
    rows = {row[0]: row[1:] for row in page.rows if row}
    curve = result["decision_curves"]["net_benefit"]["treat_all"]
    expected = [f"{curve[round(100 * limit) - 1]:.3f}" for limit in SHOWN]
    assert [cell.split()[0] for cell in rows["treating all"]] == expected
    assert rows["sex: not known"][:2] == ["12", "4"]
    assert result["definitions"]["net_benefit"] in flat and "Recalibrated here" not in flat, "of five patients"


def test_what_was_recalibrated_stands_before_and_after(outcome: Any) -> None:
    _, result, _ = outcome
    score = {"mean": 0.1234, "ci95": [0.1, 0.2]}
    given = dict.fromkeys(RECALIBRATION, score)
    ways = {"as_given": given, "intercept": given, "intercept_and_slope": dict.fromkeys(RECALIBRATION, {"mean": None})}
    page = Page(render({**result, "recalibration": {"real_baseline": ways}}, {"benefit": b"", "latent_map": b""}))
    rows = {row[0]: [" ".join(cell.split()) for cell in row[1:]] for row in page.rows if row}
    expected = ["0.123 [0.100, 0.200]", "0.123 [0.100, 0.200]", "0.12 [0.10, 0.20]"]
    assert rows["Baseline of the data set, as given"] == rows["Baseline of the data set, intercept"] == expected
    assert "Baseline of the data set, intercept and slope" not in rows
    flat = " ".join(page.text.split())
    assert all(result["definitions"][key] in flat for key in ("recalibration", "ici", "observed_expected"))


def test_differences_of_the_main_method_stand_below(outcome: Any) -> None:
    _, result, _ = outcome
    rows = benefits(result["decision_curves"])
    names = [title for title, _ in rows]
    assert (
        names[-1]
        == "NAMD, probability averaged over runs, less direct <u>classifier</u>, probability averaged over runs"
    )
    assert all(value == score["mean"] for value, score in rows[-1][1])  # type: ignore[index]
    assert all(score is None for _, score in rows[names.index("treating all")][1])
    assert benefits({"reason": "no outcomes"}) == []


def test_few_methods_stand_in_the_table_of_subgroups(outcome: Any) -> None:
    _, result, _ = outcome
    expected = ["real_baseline", "NAMD_mean_probability", "direct <u>classifier</u>_mean_probability"]
    assert subgroup_methods(result) == expected
    (row,) = [row for row in clinical_view(result)["subgroups"] if row[0] == "sex"]
    assert row[3] == [row[2]["auroc"][name] for name in expected]
