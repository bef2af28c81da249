"""A case's result in one row of results.csv, and in one line."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.results.growth import shown90
from scripts.results.reference import METHODS


def columns(result: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a result.json, by column; what is not known is empty."""
    methods = {each["method"]: each for each in result["methods"]}
    row: dict[str, Any] = {
        **{"case_id": result["case_id"], "interval_days": result["interval_days"], "num_runs": result["num_runs"]},
        "best_method": result["best_method"],
        "held_out_simulated": simulated_in_words(result["held_out_cases"]),
    }
    for name in METHODS:
        held_out = methods[name]["held_out"] or {}
        row[f"{name}_probability"] = methods[name].get("probability")
        row[f"{name}_uncalibrated"] = methods[name].get("uncalibrated")
        row[f"{name}_held_out_auroc"] = held_out.get("auroc")
    row["generated_sd_over_runs"] = methods["generated"].get("runs", {}).get("sd")
    size = result["growth"]
    change, volume, lung_rads = (size.get(key, {}) for key in ("change_mm", "volume_mm3", "lung_rads"))
    for axis in ("long", "perpendicular", "mean"):
        row |= _spread(f"{axis}_change_mm", change.get(axis))
        low, high = (change.get(axis) or {}).get("held_out90") or (None, None)
        row |= {f"{axis}_change_mm_held_out_05": low, f"{axis}_change_mm_held_out_95": high}
    row["grows_by_lung_rads"] = lung_rads.get("grows")
    row["share_of_runs_that_grow"] = lung_rads.get("share_of_runs_that_grow")
    row["baseline_volume_mm3"] = volume.get("baseline")
    row |= _spread("volume_mm3", volume.get("generated"))
    row |= _spread("doublings_per_year", size.get("doublings_per_year"))
    row["not_measurable"] = size.get("not_measurable")
    row["flags"] = " ".join(result["flags"])
    return {name: _cell(value) for name, value in row.items()}


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of :func:`columns` as the text of a CSV file."""
    buffer = io.StringIO()
    if rows:
        writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return buffer.getvalue()


def headline(result: Mapping[str, Any]) -> str:
    """The line that is logged of a single case: the best method, generated images beside it, growth, flags.

    >>> held_out = {"auroc": 0.8, "ci95": None, "n": 80}
    >>> best = {"method": "record_only", "title": METHODS["record_only"], "probability": 0.12, "held_out": held_out}
    >>> seen = {"method": "generated", "title": METHODS["generated"], "probability": None, "uncalibrated": 0.3}
    >>> growth = {"change_mm": {"mean": {"median": -0.21, "interval90": [-1.0, 0.5]}}, "lung_rads": {"grows": False}}
    >>> growth |= {"held_out": {"error_mm": 1.5, "unchanged_error_mm": 1.4}}
    >>> result = {"methods": [best, seen | {"held_out": None}], "growth": growth, "flags": ["Look.", "Think."]}
    >>> print(headline({**result, "held_out_cases": {"simulated": "All of it."}}))
    Malignant: 12 % by the record alone (held-out AUROC 0.80, simulated), 30 % by generated follow-ups, read by the
    judge (not calibrated). Mean diameter -0.2 mm [-1.0, +0.5] (on held-out nodules, simulated, off by 1.5 mm, no change
    by 1.4): no growth by Lung-RADS. 2 flags.
    """
    simulated = ", simulated" if simulated_in_words(result["held_out_cases"]) else ""
    computed = [each for each in result["methods"] if "not_computable" not in each]
    shown = computed[:1] + [each for each in computed[1:] if each["method"] == "generated"]
    said = ", ".join(f"{probability_of(each)} by {each['title']} ({_trust(each, simulated)})" for each in shown)
    size = result["growth"]
    if "not_measurable" in size:
        change = f"Growth is not measured: {size['not_measurable']}."
    else:
        mean = size["change_mm"]["mean"]
        ends = "" if (range90 := shown90(mean)) is None else " [{:+.1f}, {:+.1f}]".format(*range90)
        grows = "growth" if size["lung_rads"]["grows"] else "no growth"
        trust = size["held_out"]
        errors = trust and f"off by {trust['error_mm']:.1f} mm, no change by {trust['unchanged_error_mm']:.1f}"
        known = errors and f" (on held-out nodules{simulated and simulated + ','} {errors})"
        change = f"Mean diameter {mean['median']:+.1f} mm{ends}{known or ''}: {grows} by Lung-RADS."
    count = len(result["flags"])
    return f"Malignant: {said or 'no probability'}. {change} {count} flag{'s' * (count != 1)}."


def probability_of(method: Mapping[str, Any]) -> str:
    """A method's probability in per cent, calibrated where it can be."""
    value = method.get("probability")
    value = method["uncalibrated"] if value is None else value
    return f"{100 * value:.0f} %"


def simulated_in_words(held_out_cases: Mapping[str, Any]) -> str:
    """How the held-out cases were simulated; empty where they were not, or it is not known.

    >>> simulated_in_words({"simulated": True}), simulated_in_words({"simulated": "All of it."})
    ('Simulated', 'All of it')
    """
    found = held_out_cases["simulated"]
    return "Simulated" if found is True else (found or "").rstrip(".")


def _trust(method: Mapping[str, Any], simulated: str) -> str:
    held_out = method["held_out"] or {}
    known = f"held-out AUROC {held_out['auroc']:.2f}{simulated}" if held_out.get("auroc") is not None else ""
    raw = "" if method.get("probability") is not None else "not calibrated"
    return ", ".join(filter(None, (known, raw)))


def _spread(name: str, values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Median and ends of both intervals, as columns."""
    values = values or {}
    (first, last), (low, high) = (values.get(key) or (None, None) for key in ("interval50", "interval90"))
    ends = {"05": low, "25": first, "50": values.get("median"), "75": last, "95": high}
    return {f"{name}_{percent}": value for percent, value in ends.items()}


def _cell(value: Any) -> Any:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else value
