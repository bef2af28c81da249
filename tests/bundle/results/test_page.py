"""The page of a case: its words, and that it fits whatever it has to say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from scripts.evaluation.report.case_view import CaseStudy
from scripts.results.page import growth_in_words, held_out_in_words, page, write_page
from scripts.results.sources import ON_HELD_OUT


def study(case_id: str = "c160") -> CaseStudy:
    noise = np.random.default_rng(0).uniform(-1, 1, (4, 16, 16))
    facts = {"outcome": "unknown", "record": "", "follow_up": None, "scores": np.empty(0)}
    return CaseStudy(case_id, baseline=noise[0], samples=noise, real_scores=(0, 0), pixel_mm=(1, 1), **facts)


def words(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())


@pytest.fixture
def result(written: Path) -> dict[str, Any]:
    return json.loads((written / "c160" / "result.json").read_text())


def test_words_of_the_page(result: dict[str, Any]) -> None:
    text = words(page(study(), result | {"flags": ["Look at this."]}))
    assert "Research use only, not for clinical decisions. Generated images are synthetic." in text
    for each in result["methods"]:
        assert each["title"] in text
    held_out = result["methods"][0]["held_out"]
    assert (
        f"{held_out['auroc']:.2f} [{held_out['ci95'][0]:.2f}, {held_out['ci95'][1]:.2f}] (n = {held_out['n']})" in text
    )
    assert "In the order of their AUROC on the same 40 held-out cases" in text and "all of it" in text
    assert text.count(f"n = 40: {ON_HELD_OUT}") == 1, "whole, once: what makes these figures optimistic"
    assert text.count("n = 160: 2-fold cross-validation over training and validation") == 1
    assert "not computable: lacks the number of nodules" in text and "Look at this." in text
    assert result["made_from"]["prediction_sha256"][:12] in text


def test_how_cases_were_held_out_is_said_once_for_all_of_them(result: dict[str, Any]) -> None:
    """Of growth too, and what makes its figures optimistic; older weights do not say it of growth."""
    size = result["growth"]
    for on, told in ((ON_HELD_OUT, f"n = 40 and 39: {ON_HELD_OUT}."), ("chosen on these", "n = 39: chosen on these.")):
        growth = size | {"held_out": size["held_out"] | {"n": 39, "on": on}}
        assert told in held_out_in_words(result | {"growth": growth})
    growth = size | {"held_out": {"error_mm": 1.5, "unchanged_error_mm": 1.4, "n": 39}}
    assert "39" not in held_out_in_words(result | {"growth": growth})


def test_the_page_says_of_what_and_after_how_long(result: dict[str, Any]) -> None:
    text = words(page(study("nodule at -70, 0, 102 mm"), result | {"interval_days": 730}))
    assert text.startswith("nodule at -70, 0, 102 mm ") and "Follow-up after 24 months, " in text


def test_growth_in_words(result: dict[str, Any]) -> None:
    lines = growth_in_words(result)
    trust = result["growth"]["held_out"]
    assert f"off by {trust['error_mm']:.1f} mm; to say that nothing changes is off by" in lines[-1]
    assert lines[1].startswith("Lung-RADS: ") and "mm³" in lines[2]
    assert lines[0].startswith("Change of the diameters in mm, median and 90 % of the runs: long ")
    mean = result["growth"]["change_mm"]["mean"] | {"median": 0.5, "held_out90": [-1.5, 2.5]}
    changes = result["growth"]["change_mm"] | {"mean": mean}
    told = growth_in_words({"growth": result["growth"] | {"change_mm": changes}})
    assert told[0].endswith("mean +0.5 [-1.5, +2.5].") and "median and 90 % range: long " in told[0]
    assert told[1] == (
        "Ranges are those of the runs, scaled so as to hold the real change for 90 % of new patients, by 40 held-out "
        "nodules of 20 patients."
    )
    unmeasured = {"growth": {"not_measurable": "no nodule is found"}}
    assert growth_in_words(unmeasured) == ["Not measured: no nodule is found."]


@pytest.mark.parametrize(
    ("simulated", "told"), [(True, "Cases: discs. Simulated."), ("Drawn.", "Cases: discs. Drawn."), (None, "discs.")]
)
def test_cases_that_are_simulated_are_said_to_be(result: dict[str, Any], simulated: Any, told: str) -> None:
    cases = result["held_out_cases"] | {"simulated": simulated}
    assert f"{told} n = 40: " in held_out_in_words(result | {"held_out_cases": cases}).replace("n = 160", "n = 40")


def test_without_a_reference_it_says_so(result: dict[str, Any]) -> None:
    methods = [each | {"probability": None, "held_out": None} for each in result["methods"]]
    compared = {"dataset": None, "simulated": None, "compared": None}
    lacking = ["reference.json: no calibration"]
    growth = {**result["growth"], "held_out": None}
    changes = {
        "methods": methods,
        "held_out_cases": compared,
        "lacking": lacking,
        "growth": growth,
        "best_method": None,
    }
    text = words(page(study(), result | changes))
    assert "not known which of these is best" in text and "Lacking: reference.json: no calibration." in text


def test_long_lists_stay_on_the_page(result: dict[str, Any]) -> None:
    """Whatever is written lies within the sheet, and above the line at its foot."""
    long = "which goes on for so long that it takes more than a single line of the page to say what it has to say"
    flags = [f"This is flag number {index}, {long}" for index in range(30)]
    figure = page(study("a-case-with-a-very-long-name-" * 2), result | {"flags": flags})
    figure.canvas.draw()
    sheet = figure.bbox
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.y0 >= 0 and box.x1 <= sheet.x1, text.get_text()
    *above, foot = sorted(figure.texts, key=lambda text: -text.get_window_extent().y0)
    assert min(text.get_window_extent().y0 for text in above) > foot.get_window_extent().y1
    assert "flag number 1," in words(figure) and "more in result.json" in words(figure)


def test_it_is_written_beside_the_result(written: Path, cohort: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(written, tmp_path / "predictions")
    path = write_page(folder / "c160", cohort / "160_0.nii")
    content = path.read_bytes()
    assert path == folder / "c160" / "result.pdf" and content.startswith(b"%PDF") and b"SYNTHETIC" in content
