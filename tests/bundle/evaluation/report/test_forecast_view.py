"""What the page says of forecasts is what metrics.json holds, by the interval of the difference."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.evaluation.nodules.forecasts import RECALIBRATED, Forecasts
from scripts.evaluation.report.columns import title_of
from scripts.evaluation.report.drawing import draw_ranks
from scripts.evaluation.report.forecast_view import forecast_sentence, forecast_view
from scripts.evaluation.report.html import render
from scripts.pictures import png
from tests.bundle.evaluation.nodules.test_forecasts import section
from tests.bundle.evaluation.page import Page


def row(low: float, high: float, raw: float | None = 0.8) -> dict[str, Any]:
    covered = {"raw": {"coverage": {"mean": raw}}, "conformal": {"coverage": {"mean": 0.91}}}
    less = {"climatology": {"mean": (low + high) / 2, "ci95": [low, high]}}
    return {"crps": {"mean": 1.0}, "crps_less": less, "interval90": covered}


@pytest.mark.parametrize(
    ("low", "high", "said"), [(0.1, 0.3, "worse"), (-0.3, -0.1, "better"), (-0.1, 0.3, "no different")]
)
def test_the_sentence_goes_by_the_interval(low: float, high: float, said: str) -> None:
    sentence = forecast_sentence({"climatology": {}, "NAMD": row(low, high)})
    assert sentence is not None and f": {said}, as far" in sentence and f"[{low:+.2f}, {high:+.2f}]" in sentence
    assert "90% intervals hold 80% (raw) and 91% (conformal)" in sentence
    assert "hold 91% (conformal) of" in str(forecast_sentence({"NAMD": row(low, high, None)}))
    assert forecast_sentence({"NAMD": {"reason": "one run"}, "copy_baseline": row(0, 1)}) is None


def test_without_an_interval_there_is_no_verdict() -> None:
    known = row(-0.3, -0.1)
    known["crps_less"]["climatology"]["ci95"] = None
    sentence = str(forecast_sentence({"NAMD": known}))
    assert "-0.20 (no interval) beside climatology's. Its 90%" in sentence and "different" not in sentence


def test_page_and_figure_have_the_numbers(outcome: Any) -> None:
    found = Forecasts(section(40, 1, weights=True), ["NAMD"], section(80, 2), section(12, 3)).score()
    figures = dict(draw_ranks(found, "NAMD"))
    bars = [bar.get_height() for bar in figures["ranks"].axes[0].patches]
    assert bars[: len(bars) - 1] == found["long"]["NAMD"]["rank_histogram"]["counts"]
    assert len(figures["ranks"].axes) == 3, "the recalibrated runs have too few validation nodules"
    assert list(draw_ranks(found, None)) == list(draw_ranks(None, "NAMD")) == list(draw_ranks(found, "other")) == []
    _, result, _ = outcome
    text = render(
        {**result, "forecasts": found}, dict.fromkeys(("benefit", "latent_map"), b"") | {"ranks": png(figures["ranks"])}
    )
    page = Page(text)
    rows = [each for each in page.rows if each and each[0] == title_of("climatology")]
    assert len(rows) == 6 and rows[0][1].split()[0] == f"{found['long']['climatology']['crps']['mean']:.3f}"
    assert rows[1][1].split()[0] == f"{found['long']['climatology']['interval50']['raw']['coverage']['mean']:.2f}"
    flat = " ".join(page.text.split())
    assert str(forecast_sentence(found["long"])) in flat
    assert f"{title_of('NAMD' + RECALIBRATED)}: fewer than 19 validation nodules can be measured (12)." in flat
    assert len(page.images) == 3 and "What is forecast: diameters" in flat


def test_nothing_forecast_is_nothing_shown() -> None:
    assert forecast_view(None) == {**forecast_view({}), "axes": {}} and forecast_view(None)["sentence"] is None
