"""The course of a nodule: its size against time, where follow-ups were generated after several intervals."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scripts.data.transforms import MARK
from scripts.ehr.report import DAYS_PER_MONTH
from scripts.evaluation.report.figures import LINES, NEUTRAL
from scripts.files import read_mapping, write_atomically, write_json
from scripts.predictions import PredictionError
from scripts.results.case import RESULT, WARNING, Item
from scripts.results.flags import OF_INTERVAL
from scripts.results.growth import AXES, INTERVALS
from scripts.results.write import rounded

logger = logging.getLogger(__name__)

FOLDER = "courses"
"""In a folder of predictions: ``<case_id>.json`` and ``<case_id>.png``."""


def write_courses(predictions_dir: str | Path, items: Sequence[Item]) -> list[Path]:
    """Writes, of each case of :func:`scripts.data.at_intervals`, its course and the figure of it.

    They are made from the ``result.json`` of its intervals; other items have no course.

    Args:
        items: each with a result, see :func:`scripts.results.write_results`.

    Returns:
        The figures.
    """
    folder, cases = Path(predictions_dir), dict[str, list[Item]]()
    for item in items:
        if "course" in item:
            cases.setdefault(item["course"], []).append(item)
    figures = []
    for case_id, some in cases.items():
        results = [read_mapping(folder / item["case_id"] / RESULT, PredictionError) for item in some]
        content = course(case_id, results)
        write_json(folder / FOLDER / f"{case_id}.json", rounded(content))
        target = folder / FOLDER / f"{case_id}.png"
        target.unlink(missing_ok=True)
        if outside := [f"{time['interval_days']:g}" for time in content["times"] if time["outside_training"]]:
            logger.warning(
                f"{case_id}: {', '.join(outside)} days are outside the intervals of the weights' training, so that "
                "their sizes say nothing. Ask for others, or train on pairs of such intervals."
            )
        if content["baseline_mm"] is None:
            logger.warning(f"{case_id}: no figure of its size, since {content['times'][0]['not_measurable']}.")
            continue
        with write_atomically(target) as path:
            draw(content).savefig(path, format="png", dpi=150, metadata={"Comment": MARK})
        figures.append(target)
    if figures:
        logger.info(f"Size against time: {figures[0]}" + (f" and {len(figures) - 1} more" if figures[1:] else ""))
    return figures


def course(case_id: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sizes of one case by time.

    Args:
        results: contents of result.json, one an interval.

    Returns:
        ``baseline_mm``, diameters by :data:`scripts.results.growth.AXES`, None where they cannot be measured; and
        ``times``, by day: ``interval_days``; ``outside_training``, whether a flag says so; and ``diameter_mm`` with
        median and intervals over the runs of each, or ``not_measurable``, the reason.
    """
    times: list[dict[str, Any]] = []
    baseline = None
    for result in sorted(results, key=lambda each: each["interval_days"]):
        size, time = result["growth"], {"interval_days": result["interval_days"], "num_runs": result["num_runs"]}
        time["outside_training"] = any(flag.startswith(OF_INTERVAL) for flag in result["flags"])
        if "not_measurable" in size:
            times.append({**time, "not_measurable": size["not_measurable"]})
            continue
        baseline = size["baseline_mm"]
        diameters = {axis: _shifted(size["change_mm"][axis], baseline[axis]) for axis in AXES}
        times.append({**time, "diameter_mm": diameters, "runs_not_found": size["runs_not_found"]})
    return {
        **{"synthetic": MARK, "warning": WARNING, "case_id": case_id},
        **{"baseline_mm": baseline, "times": times},
    }


def _shifted(change: Mapping[str, Any], start: float) -> dict[str, Any]:
    """Median and intervals of a size from those of its change; quantiles move with a constant."""
    ends = {name: None if change[name] is None else [start + end for end in change[name]] for name in INTERVALS}
    return {"median": start + change["median"], **ends}


def draw(content: Mapping[str, Any], axis: str = "mean") -> Figure:
    """Size against time: the baseline, and over the runs the median, and bands of 50 % and 90 %.

    Args:
        content: of :func:`course`, with a baseline.
        axis: which diameter, one of :data:`scripts.results.growth.AXES`.
    """
    start = content["baseline_mm"][axis]
    known = [time for time in content["times"] if "diameter_mm" in time]
    spreads = [time["diameter_mm"][axis] for time in known]
    months = np.array([0.0, *(time["interval_days"] / DAYS_PER_MONTH for time in known)])
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, shade, label in (("interval90", 0.15, "90 % of the runs"), ("interval50", 0.3, "50 %")):
        if all(spread[name] for spread in spreads):
            low, high = np.array([[start, start], *(spread[name] for spread in spreads)]).T
            axes.fill_between(months, low, high, color=LINES[3], alpha=shade, linewidth=0, label=label)
    medians = [start, *(spread["median"] for spread in spreads)]
    axes.plot(months, medians, color=LINES[3], marker="o", markersize=4, label="median")
    if outside := [index for index, time in enumerate(known, 1) if time["outside_training"]]:
        label = "outside training's intervals: says nothing"
        ends = np.array(medians)[outside]
        axes.plot(months[outside], ends, color="#8a3b00", marker="x", markersize=9, linestyle="none", label=label)
    axes.plot(0.0, start, color="black", marker="o", linestyle="none", label="baseline, measured")
    axes.set(xlabel="months from the baseline", ylabel=f"{axis} diameter, mm", xlim=(0.0, None))
    axes.set_xticks(months, [f"{month:.0f}" for month in months])
    axes.grid(alpha=0.2)
    axes.legend(frameon=False, fontsize=8, loc="best")
    runs = ", ".join(sorted({str(time["num_runs"]) for time in known}))
    axes.set_title(f"{content['case_id']}: {runs} generated follow-ups at each time", fontsize=9)
    figure.supxlabel(WARNING, fontsize=7, color=NEUTRAL)
    return figure
