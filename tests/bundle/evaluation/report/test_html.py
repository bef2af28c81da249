"""The evaluation page: numbers as in the metrics, and what it says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.evaluation.report.columns import LATENTS, METRICS, title_of
from scripts.evaluation.report.html import gap_sentence, number, render, steering_sentence
from scripts.evaluation.steering import (
    SHUFFLED,
)
from tests.bundle.evaluation.page import Page


def test_table_of_the_report_equals_the_metrics(outcome):
    _, result, folder = outcome
    report = Page((folder / "report.html").read_text())
    head, *body = report.rows[: 1 + len(result["methods"])]
    assert head == ["Method", "AUROC ↑", "AUPRC ↑", "LPIPS ↓", "FID ↓", "KID ↓"]
    assert [row[0] for row in body] == [title_of(name) for name in result["methods"]]
    for row, scores in zip(body, result["methods"].values(), strict=True):
        for cell, (metric, (_, decimals)) in zip(row[1:], METRICS.items(), strict=True):
            score = scores[metric]
            expected = number(score["mean"], decimals)
            if score["ci95"]:
                low, high = (number(bound, decimals) for bound in score["ci95"])
                expected += f" [{low}, {high}]"
            if score["std"] is not None:
                expected += f" sd {number(score['std'], decimals)}"
            assert " ".join(cell.split()) == expected


def test_latent_spaces_stand_in_both_files(outcome):
    """The discs' records, of one diameter each, and latents that see brightness: they agree, and so do the files."""
    _, result, folder = outcome
    head = ["Autoencoder", *(title for title, _ in LATENTS.values())]
    rows = Page((folder / "report.html").read_text()).rows
    rows = rows[rows.index(head) + 1 :][:2]
    assert [row[0] for row in rows] == list(result["latents"]) == ["aligned", "not aligned"]
    for row in rows:
        for cell, (key, (_, decimals)) in zip(row[1:], LATENTS.items(), strict=True):
            score = result["latents"][row[0]][key]
            assert cell.split()[0] == number(score["mean"], decimals) and score["ci95"] is not None


def test_report_says_what_it_is_and_needs_no_network(outcome):
    study, result, folder = outcome
    html = (folder / "report.html").read_text()
    report = Page(html)
    flat = " ".join(report.text.split())
    for phrase in (
        *("Research use only, not for clinical decisions", "Generated images are synthetic", "Simulated data:"),
        *(study["command"], *result["feature_extractors"].values(), f"torch {result['versions']['torch']}"),
        *(
            "discs are drawn & 'simulated'. No number",
            "direct <u>classifier</u>",
            gap_sentence(result),
            result["created"],
        ),
    ):
        assert phrase in flat
    assert "u" not in report.tags, "a method's name must not become markup"
    assert all(address.startswith("data:image/png;base64,") for address in report.addresses)
    assert "http:" not in html and "https:" not in html and "patient-" not in html
    assert "prefers-color-scheme: dark" in html and 'name="viewport"' in html


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ([-0.2, -0.1], "rests on the record"),
        ([-0.2, 0.1], "no effect"),
        ([0.1, 0.2], "worse with"),
        (None, "cannot be told"),
    ],
)
def test_the_report_says_whether_an_effect_is_shown(change: list[float] | None, said: str) -> None:
    auroc_change = None if change is None else {"mean": sum(change) / 2, "ci95": change}
    row = {"image_change_hu": {"mean": 31.0, "ci95": [25.0, 38.0]}, "auroc_change": auroc_change}
    sentence = steering_sentence({"interventions": {SHUFFLED: row}})
    assert "by 31 HU" in sentence and said in sentence


def test_a_gap_whose_interval_holds_zero_has_no_share() -> None:
    def result(bounds: list[float] | None, share: float | None) -> dict[str, Any]:
        gap = {"mean": 0.1, "ci95": bounds}
        return {"methods": {"mine": {}}, "gap": {"auroc": gap}, "gap_closed": {"auroc": share}}

    shown, unsure, unknown = (
        gap_sentence(result(*each)) for each in (([0.02, 0.2], 0.65), ([-0.01, 0.2], None), (None, None))
    )
    assert shown == "mine closes 65% of the AUROC gap between the data set's baselines and follow-ups."
    assert unsure is not None and "%" not in unsure
    assert "No gap is shown" in unsure and "AUROC +0.100 [-0.010, 0.200]" in unsure
    assert unknown is None
    below = gap_sentence(result([-0.09, -0.01], None))
    assert below is not None and "No gap is shown" not in below
    assert "reads the follow-ups worse" in below and "AUROC +0.100 [-0.090, -0.010]." in below
    bare = gap_sentence(result([0.02, 0.14], None))
    assert bare == "The gap between the data set's baselines and follow-ups is AUROC +0.100 [0.020, 0.140]."


@pytest.mark.parametrize(
    ("bounds", "said"),
    [([0.01, 0.09], "0.090]."), ([-0.03, 0.09], "so that no gain is shown."), ([-0.09, -0.01], ", a loss.")],
)
def test_the_gain_stands_with_its_interval(bounds: list[float], said: str) -> None:
    gain = {"auroc_difference": {"real_baseline": {"mean": 0.04, "ci95": bounds}}}
    methods = {"mine": {}, "mine_mean_probability": gain}
    gap = {"auroc": {"mean": 0.1, "ci95": [0.02, 0.2]}}
    sentence = gap_sentence({"methods": methods, "gap": gap, "gap_closed": {"auroc": 0.4}})
    assert sentence is not None and sentence.endswith(said)
    assert f"its AUROC less the baselines' is +0.040 [{bounds[0]:.3f}, {bounds[1]:.3f}]" in sentence


def test_the_page_says_what_trained_the_weights_and_what_is_left_out(outcome: Any) -> None:
    _, result, folder = outcome
    whole = (folder / "report.html").read_text()
    assert 'id="trained"' not in whole and 'id="events"' in whole and result["events_warning"] in whole
    seen = {"n_cases": 12, "n_trained": 3, "unknown": ["classifier"]}
    missing = [{"what": "everything", "reason": "no time"}]
    pictures = {name: b"" for name in ("benefit", "latent_map")}
    page = Page(render({**result, "training_cases": seen, "left_out": missing}, pictures))
    flat = " ".join(page.text.split())
    assert "3 of 12 cases trained these weights: what is said of them is no evaluation" in flat
    assert "It is not known which cases trained classifier" in flat and "everything: no time." in flat
