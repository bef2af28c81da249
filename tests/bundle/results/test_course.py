"""Size against time, of follow-ups that were generated after several intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from scripts.data.datalist import inference_items
from scripts.data.intervals import at_intervals
from scripts.evaluation.nodules.growth import measure
from scripts.results.case import Results
from scripts.results.course import course, draw, write_courses
from scripts.results.growth import growth
from scripts.results.write import write_results
from tests.bundle.results.conftest import SIZE, Predict, follow_ups
from tests.bundle.results.test_growth import sizes


def result(days: int, long: list[float], found: bool = True, flags: tuple[str, ...] = ()) -> dict[str, Any]:
    """A result.json's part of a nodule of 10 by 8 mm that was generated with these long diameters."""
    before, after = sizes([10.0], [8.0], found), sizes(long, [0.8 * each for each in long])
    return {"interval_days": days, "num_runs": len(long), "growth": growth(before, after, days), "flags": list(flags)}


def test_sizes_are_those_of_the_runs_by_weibulls_quantiles() -> None:
    runs = {730: [11.0, 19.0, 12.0, 16.0, 14.0], 182: [10.0, 10.5, 11.0, 9.0, 12.0]}
    content = course("a", [result(days, long) for days, long in runs.items()])
    assert content["baseline_mm"] == pytest.approx({"long": 10.0, "perpendicular": 8.0, "mean": 9.0})
    assert [time["interval_days"] for time in content["times"]] == [182, 730]
    for time in content["times"]:
        mean = 0.9 * np.array(runs[time["interval_days"]])
        spread = time["diameter_mm"]["mean"]
        assert spread["median"] == pytest.approx(np.median(mean))
        assert spread["interval50"] == pytest.approx(np.quantile(mean, [0.25, 0.75], method="weibull").tolist())
        assert spread["interval90"] is None, "five runs do not reach it"


def test_the_figure_shows_the_baseline_medians_and_bands() -> None:
    rng = np.random.default_rng(0)
    runs = {days: rng.normal(10 + days / 200, 1, 20).tolist() for days in (182, 365, 730)}
    content = course("a", [result(days, long) for days, long in runs.items()])
    figure = draw(content)
    axes = figure.axes[0]
    median, start = (np.asarray(line.get_xydata()) for line in axes.lines)
    assert start.tolist() == [pytest.approx([0.0, 9.0])]
    assert median[:, 0] == pytest.approx(np.array([0, 182, 365, 730]) / 30.4375)
    assert median[1:, 1] == pytest.approx([0.9 * np.median(long) for long in runs.values()])
    wide, narrow = (band.get_paths()[0].get_extents() for band in axes.collections)
    assert wide.y0 < narrow.y0 < narrow.y1 < wide.y1
    assert {*axes.get_legend_handles_labels()[1]} == {"90 % of the runs", "50 %", "median", "baseline, measured"}
    assert "Generated images are synthetic" in figure.get_supxlabel()


def test_courses_are_written_of_cases_that_were_asked_for_several_times(
    cohort: Path, published: Path, predict: Predict, tmp_path: Path
) -> None:
    own = inference_items(cohort, "test", image_size=SIZE)
    items = at_intervals(own, [182, 365])
    made_by = predict(published, tmp_path, items)
    write_results(tmp_path, items, Results(published, made_by))
    figures = write_courses(tmp_path, items)
    assert figures == [tmp_path / "courses" / f"{item['case_id']}.png" for item in own]
    assert imread(figures[0]).shape[0] > 300 and b"SYNTHETIC" in figures[0].read_bytes()
    content = json.loads(figures[0].with_suffix(".json").read_text())
    for time, days in zip(content["times"], (182, 365), strict=True):
        drawn = follow_ups(f"c160_{days}d").clip(-1000, 400)
        expected = np.median(measure(((drawn + 300) / 700)[:, None, None], np.ones((1, 2))).mean)
        assert time["diameter_mm"]["mean"]["median"] == pytest.approx(expected, rel=1e-3)
    assert "SYNTHETIC" in content["synthetic"] and [time["interval_days"] for time in content["times"]] == [182, 365]
    assert write_courses(tmp_path, own) == [], "cases with an interval of their own have no course"


def test_times_that_training_did_not_have_are_marked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = ("The interval, 182 days, is outside that of training, 365 days: the weights never saw such a follow-up.",)
    for days, flags in ((182, told), (365, ("Another flag.",))):
        (tmp_path / f"a_{days}d").mkdir()
        written = json.dumps(result(days, [10.0, 11.0, 12.0], flags=flags))
        (tmp_path / f"a_{days}d" / "result.json").write_text(written)
    write_courses(tmp_path, [{"case_id": f"a_{days}d", "course": "a"} for days in (182, 365)])
    content = json.loads((tmp_path / "courses" / "a.json").read_text())
    assert [time["outside_training"] for time in content["times"]] == [True, False]
    assert "182 days are outside the intervals of the weights' training" in caplog.text
    (crosses,) = (line for line in draw(content).axes[0].lines if "outside" in str(line.get_label()))
    assert np.asarray(crosses.get_xydata())[:, 0] == pytest.approx([182 / 30.4375])


def test_a_nodule_that_is_not_seen_has_no_figure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a_182d").mkdir()
    (tmp_path / "a_182d" / "result.json").write_text(json.dumps(result(182, [10.0] * 3, found=False)))
    assert write_courses(tmp_path, [{"case_id": "a_182d", "course": "a"}]) == []
    content = json.loads((tmp_path / "courses" / "a.json").read_text())
    assert content["baseline_mm"] is None and "no nodule is found" in content["times"][0]["not_measurable"]
    assert "no figure of its size" in caplog.text
