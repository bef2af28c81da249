"""What an evaluation could not say, and why, gathered from its result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scripts.evaluation.report.columns import CALIBRATION, GROWTH, LATENTS, METRICS, RECALIBRATION
from scripts.evaluation.report.forecast_view import reasons

EXPECTED = ("not given where no image is made", "not given for real images", "no interval, for resampling")
"""Beginnings of reasons that hold for every dataset."""


def left_out(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """The entry `left_out` of metrics.json: `what` is missing and the `reason`, each reason once.

    Args:
        result: the other entries of metrics.json.
    """
    reasons: dict[str, list[str]] = {}
    for what, reason in _missing(result):
        places = reasons.setdefault(reason, [])
        if what not in places:
            places.append(what)
    return [{"what": ", ".join(places), "reason": reason} for reason, places in reasons.items()]


def _missing(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is missing, and why, with repetitions."""
    metrics, latents = ({key: title.rstrip(" ↑") for key, (title, _) in each.items()} for each in (METRICS, LATENTS))
    calibration = {key: title.split()[0] for key, (title, _) in CALIBRATION.items()}
    growth = {key: f"growth: {title.split(' (')[0].rstrip(' ↑↓')}" for key, (title, _) in GROWTH.items()}
    for row in result["methods"].values():
        yield from _scores(row, metrics)
        for difference in row.get("auroc_difference", {}).values():
            yield from _scores({"all": difference}, {"all": "differences in AUROC"})
        yield from _scores(row.get("calibration", {}), calibration)
    for truth, name in (("measured", "real follow-up"), ("record", "record")):
        part = (result["growth"] or {}).get(truth, {"methods": {}, "n_cases": 0})
        if not part["n_cases"]:
            yield f"growth against the {name}", "no nodule can be measured, or has a known diameter, at both times"
        for name, row in part["methods"].items():
            if name != "copy_baseline":  # which never changes
                yield from _scores(row, growth)
    for what, reason in reasons((result["forecasts"] or {}).get("long", {})):
        yield f"forecast of growth: {what}", reason
    for scores in result["latents"].values():
        yield from _scores(scores, latents)
    for ways in result["recalibration"].values():
        for scores in ways.values():
            yield from _scores(scores, dict.fromkeys(RECALIBRATION, "recalibration"))
    for key, title in (("decision_curves", "decision curves"), ("added_value", "what generated images add")):
        if reason := result[key].get("reason"):
            yield title, reason
    for points in result["operating_points"].values():
        if reason := points.get("reason"):
            yield "sensitivity and specificity", reason
        else:
            for point in points.values():
                yield from _scores(point, {key: key for key in ("sensitivity", "specificity")})


def _scores(row: Mapping[str, Any], titles: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Titles and reasons of the scores, or of their intervals, that are missing in a row."""
    for key, title in titles.items():
        score = row.get(key) or {}
        reason = score.get("reason")
        if reason and not reason.startswith(EXPECTED):
            yield (title if score["mean"] is None else "intervals"), reason
