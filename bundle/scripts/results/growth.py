"""Growth of one nodule from the baseline to what was generated: changes in mm, volume, doublings, over all runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from scripts.arrays import Array
from scripts.evaluation.nodules.forecasts import AXES
from scripts.evaluation.nodules.growth import DIAMETER_CHANGE, YEAR, Sizes, diameter_class, doubling_time
from scripts.evaluation.statistics.forecasts import INTERVALS, fewest_draws

NOT_FOUND = "no nodule is found at the centre of the crop"
CUT = "the nodule reaches the border of the crop, or has no edge that can be followed"
"""Why a nodule is not measured, see :class:`scripts.evaluation.nodules.outline.Outlines`."""


def spread(values: Array) -> dict[str, Any]:
    """Median and intervals of one number over runs (R,), by quantiles at (R + 1) p (Weibull 1939).

    Returns:
        ``median``, ``interval50`` and ``interval90``; an interval is None where the runs are too few to reach its ends.

    Example:
        >>> spread(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
        {'median': 3.0, 'interval50': [1.5, 4.5], 'interval90': None}
    """
    result: dict[str, Any] = {"median": float(np.median(values))}
    for name, ends in INTERVALS.items():
        reached = len(values) >= fewest_draws(name)
        result[name] = np.quantile(values, ends, method="weibull").tolist() if reached else None
    return result


def held_out_intervals(after: Array, before: float, factors: Mapping[str, float]) -> dict[str, list[float] | None]:
    """Intervals of a diameter's change, scaled by held-out nodules so as to hold their share; runs' mostly do not.

    Args:
        after: of R runs (R,), in mm.
        before: at baseline, in mm.
        factors: by name of :data:`INTERVALS`, by how much the ends of the runs' quantiles move apart.

    Returns:
        ``held_out50`` and ``held_out90``, ends with the runs' median between them; None where there is no factor.

    Example:
        >>> held_out_intervals(np.array([10.0, 10.0, 10.0]), 10.0, {"interval50": 1.25})
        {'held_out50': [-2.0, 2.5], 'held_out90': None}
    """
    found: dict[str, list[float] | None] = {}
    for name, ends in INTERVALS.items():
        key, factor, middle = name.replace("interval", "held_out"), factors.get(name), float(np.median(after))
        found[key] = None
        if factor is not None and len(after) >= fewest_draws(name):
            low, high = np.quantile(after, ends, method="weibull").tolist()
            found[key] = [min(low / factor, middle) - before, max(high * factor, middle) - before]
    return found


def shown90(spread: Mapping[str, Any]) -> list[float] | None:
    """The 90 % interval to show of a change: the one made by held-out nodules, else that of the runs."""
    held: list[float] | None = spread.get("held_out90") or spread["interval90"]
    return held


def yearly(change_mm: Array, days: float) -> Array:
    """The change of a diameter within 12 months, as Lung-RADS asks for it.

    Where the interval is not longer it is all of the change, else the share of 365.25 days, as if growth were even.
    """
    return change_mm * min(1.0, YEAR / days)


def growth(
    baseline: Sizes, generated: Sizes, days: float, factors: Mapping[str, Mapping[str, float]] | None = None
) -> dict[str, Any]:
    """The entry `growth` of result.json.

    Args:
        baseline: of the nodule at baseline, one run and one case.
        generated: of the same nodule in R runs, one case.
        days: from baseline to what was generated.
        factors: of :func:`scripts.results.held_out.interval_factors`; None where they are not known.

    Returns:
        ``not_measurable``, the reason, where the nodule is not seen at baseline, or is larger than the crop there or in
        most runs; else the numbers that bundle/docs/evaluation.md names.
    """
    counts = {"runs_not_found": int((~generated.found).sum()), "runs_cut": int(generated.cut.sum())}
    if reason := _not_measurable(baseline, counts["runs_cut"], len(generated.cut)):
        return {"not_measurable": reason, **counts}
    before = {axis: float(getattr(baseline, axis)[0, 0]) for axis in AXES}
    after = {axis: getattr(generated, axis)[:, 0] for axis in AXES}
    change = {axis: after[axis] - before[axis] for axis in AXES}
    held = {axis: held_out_intervals(after[axis], before[axis], (factors or {}).get(axis, {})) for axis in AXES}
    in_a_year = yearly(change["mean"], days)
    classes = diameter_class(np.zeros_like(in_a_year), in_a_year)
    volumes = float(baseline.volume[0, 0]), generated.volume[:, 0]
    return {
        "baseline_mm": before,
        "change_mm": {axis: spread(values) | held[axis] for axis, values in change.items()},
        "lung_rads": {
            "threshold_mm": DIAMETER_CHANGE,
            "change_in_12_months_mm": spread(in_a_year),
            "grows": bool(np.median(in_a_year) > DIAMETER_CHANGE),
            "share_of_runs_that_grow": float((classes == 1).mean()),
            "share_of_runs_that_shrink": float((classes == -1).mean()),
        },
        "volume_mm3": {"from": "one slice, as an ellipsoid", "baseline": volumes[0], "generated": spread(volumes[1])},
        "doublings_per_year": spread(YEAR / doubling_time(np.array(volumes[0]), volumes[1], days)),
        **counts,
    }


def _not_measurable(baseline: Sizes, runs_cut: int, num_runs: int) -> str | None:
    """Why growth cannot be measured; None where it can."""
    if not baseline.found[0, 0]:
        return f"in the baseline {NOT_FOUND}"
    if baseline.cut[0, 0]:
        return f"in the baseline {CUT}"
    return f"in {runs_cut} of {num_runs} runs {CUT}" if runs_cut > num_runs / 2 else None
