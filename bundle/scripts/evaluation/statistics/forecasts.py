"""Forecasts of a number judged as distributions: fair CRPS, intervals with conformal correction, rank histograms.

A forecast of N cases is M numbers each. They are draws, exchangeable with what they forecast if the forecast is right,
or quantiles at the levels (k - 1/2) / M. M is the number of these members, N of evaluated and V of calibration cases.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from scripts.arrays import Array
from scripts.evaluation.statistics.metrics import similarity, undefined

INTERVALS = {"interval50": (0.25, 0.75), "interval90": (0.05, 0.95)}
"""Names of central intervals, and their quantiles."""

MOST_BINS = 21
"""Bins of a rank histogram at most: the ranks among 20 runs."""

EXPECTED = 5
"""Cases expected in each bin of a rank histogram, at least, for the chi-square approximation."""


@dataclass(frozen=True)
class Forecast:
    """A forecast of N cases.

    Attributes:
        members: (M, N).
        drawn: whether members are draws; else they are quantiles, and a single one a forecast without spread.
    """

    members: Array
    drawn: bool = True

    def crps(self, truth: Array) -> Array:
        """The continuous ranked probability score (N,), of draws in its fair form; see :func:`crps`."""
        return crps(self.members, truth, fair=self.drawn)

    def ends(self, name: str) -> Array:
        """Both ends (2, N) of one of :data:`INTERVALS`; beyond the outermost members there is no quantile but these.

        Quantiles of draws are at (M + 1) p (Weibull 1939), so that a new draw lies below with probability p; those
        between given quantiles at M p + 1/2 (Hazen 1914), so that these stay what they are.
        """
        return np.quantile(self.members, INTERVALS[name], axis=0, method="weibull" if self.drawn else "hazen")

    def reaches(self, name: str) -> str | None:
        """Why the members do not give one of :data:`INTERVALS`; None where they do."""
        if len(self.members) == 1:
            return "not given for a single value"
        needed = fewest_draws(name)
        if self.drawn and len(self.members) < needed:
            return f"not given for fewer than {needed} runs; here {len(self.members)}"
        return None


def fewest_draws(name: str) -> int:
    """The number of draws whose quantiles at (M + 1) p reach the ends of one of :data:`INTERVALS`.

    >>> fewest_draws("interval50"), fewest_draws("interval90")
    (3, 19)
    """
    return ceil(round(1 / INTERVALS[name][0] - 1, 9))


def crps(members: Array, truth: Array, fair: bool = True) -> Array:
    """Continuous ranked probability score of each case: the integral of (F(x) - 1{truth <= x})^2 over x.

    With M members x_i it is mean |x_i - y| - sum_ij |x_i - x_j| / (2 M^2) (Gneiting and Raftery 2007, Eq. 21, of the
    members' distribution). The fair form divides by 2 M (M - 1): it is without bias what infinitely many draws would
    have (Ferro 2014), so that methods with different numbers of runs can be compared. Of quantiles at (k - 1/2) / M the
    plain form is twice their mean quantile loss (Bröcker 2012), and of a single value the absolute error.

    Args:
        members: (M, N); M is 2 at least for the fair form.
        truth: (N,).
        fair: see above.

    Returns:
        (N,), in the truth's unit; less is better.

    Example:
        >>> crps(np.array([[1.0], [3.0]]), np.array([2.5])).tolist()
        [0.0]
        >>> crps(np.array([[1.0], [3.0]]), np.array([2.5]), fair=False).tolist()
        [0.5]
    """
    count = len(members)
    if fair and count < 2:
        raise ValueError("the fair CRPS needs two members at least")
    order = 2.0 * np.arange(1, count + 1) - count - 1  # sum_ij |x_i - x_j| / 2 is the sum of these times sorted members
    spread = order @ np.sort(members, axis=0)
    return np.abs(members - truth).mean(axis=0) - spread / (count * (count - 1 if fair else count))


def correction(scores: Array, patients: Sequence[Hashable], share: float) -> float | None:
    """The quantile of calibration scores that a new patient's score does not exceed with a probability of ``share``.

    Each of K patients has the weight 1 / (K + 1), divided among their cases, and the new one the rest, at infinity: the
    smallest score at which the weights reach ``share`` (hierarchical conformal prediction, Lee, Barber and Willett
    2023). With one case a patient that is the score of rank ceil((K + 1) share), as in split conformal prediction.

    Args:
        scores: (V,).
        patients: V; cases of one patient may depend on each other, patients are exchangeable.

    Returns:
        None where K is below share / (1 - share): then only an infinite interval would hold the share.

    Example:
        >>> correction(np.arange(9.0), range(9), 0.9), correction(np.arange(8.0), range(8), 0.9)
        (8.0, None)
    """
    _, index, counts = np.unique([str(patient) for patient in patients], return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1 / counts[index[order]]) / (len(counts) + 1)
    enough = np.flatnonzero(reached >= share - 1e-9)
    return float(scores[order[enough[0]]]) if len(enough) else None


def fewest_patients(share: float) -> int:
    """The number of patients from which :func:`correction` is finite.

    >>> fewest_patients(0.9)
    9
    """
    return ceil(round(share / (1 - share), 9))


def conformal_factor(calibration: Forecast, truth: Array, patients: Sequence[Hashable], name: str) -> float | None:
    """The factor by which both ends of one of :data:`INTERVALS` move apart so that it holds its share of new patients.

    Conformalised quantile regression (Romano et al. 2019) in logarithms, since growth is a ratio: the exponential of
    the :func:`correction` of the scores max(log lower - log y, log y - log upper). Below 1 the ends move together.

    Args:
        calibration: positive, of cases on which the method was not fitted.
        truth, patients: (V,) and V, of these cases.

    Returns:
        None where patients are too few; see :func:`fewest_patients`.
    """
    lower, upper = np.log(calibration.ends(name))
    scores = np.maximum(lower - np.log(truth), np.log(truth) - upper)
    found = correction(scores, patients, INTERVALS[name][1] - INTERVALS[name][0])
    return None if found is None else float(np.exp(found))


def conformal(
    forecast: Forecast, calibration: Forecast, truth: Array, patients: Sequence[Hashable], name: str
) -> Array:
    """Ends (2, N) of one of :data:`INTERVALS`, moved by the :func:`conformal_factor` of other cases.

    Ends that would cross stay empty intervals.

    Args:
        forecast: positive, of the evaluated cases.
        calibration, truth, patients: of the others, by the same method.

    Raises:
        ValueError: patients are too few.
    """
    factor = conformal_factor(calibration, truth, patients, name)
    if factor is None:
        raise ValueError(f"patients are fewer than {fewest_patients(INTERVALS[name][1] - INTERVALS[name][0])}")
    return forecast.ends(name) * np.array([[1 / factor], [factor]])


def interval_scores(ends: Array, truth: Array, weights: Array | None) -> dict[str, Any]:
    """``coverage``, the share of truths (N,) within ends (2, N), and mean ``width``, each as `estimate` gives it."""
    within = (ends[0] <= truth) & (truth <= ends[1])
    width = np.maximum(ends[1] - ends[0], 0)
    return {"coverage": similarity(within.astype(float)[None], weights), "width": similarity(width[None], weights)}


def positions(forecast: Forecast, truth: Array, seed: int = 0) -> Array:
    """The place (N,) of each truth in its forecast, from 0 to 1, uniform if the forecast is right.

    Of M draws it is (rank + u) / (M + 1), with u uniform, and ties between truth and members broken at random
    (Hamill 2001); between quantiles at (k - 1/2) / M a uniform number between those next to the truth.

    Args:
        seed: of the random numbers.
    """
    generator, count = np.random.default_rng(seed), len(forecast.members)
    below, ties = (forecast.members < truth).sum(axis=0), (forecast.members == truth).sum(axis=0)
    rank = below + generator.integers(0, ties + 1)
    ends = np.array([rank, rank + 1]) / (count + 1) if forecast.drawn else np.array([rank - 0.5, rank + 0.5]) / count
    low, high = ends.clip(0, 1)
    return low + (high - low) * generator.random(len(truth))


def rank_histogram(forecast: Forecast, truth: Array, seed: int = 0) -> dict[str, Any]:
    """How often the truth has which rank in its forecast, and whether the ranks are even.

    There are as many bins as ranks, but fewer where that is more than :data:`MOST_BINS`, or would leave fewer than
    :data:`EXPECTED` cases to a bin.

    Returns:
        ``counts``; ``chi_square`` with ``degrees_of_freedom`` and ``p`` (Pearson's, which takes cases as independent);
        ``below`` and ``above``, the shares of truths beyond all members. Or the ``reason`` why there is none.
    """
    from scipy.stats import chisquare  # a single case's result, which needs quantiles alone, does not wait for it

    members, cases = len(forecast.members), len(truth)
    bins = min(MOST_BINS, members + 1, cases // EXPECTED)
    if members == 1 or bins < 2:
        return {
            "reason": "not given for a single value"
            if members == 1
            else f"not given for fewer than {2 * EXPECTED} cases"
        }
    counts, _ = np.histogram(positions(forecast, truth, seed), bins=bins, range=(0, 1))
    test = chisquare(counts)
    return {
        "counts": counts.tolist(),
        **{"chi_square": float(test.statistic), "degrees_of_freedom": bins - 1, "p": float(test.pvalue)},
        "below": float((truth < forecast.members.min(axis=0)).mean()),
        "above": float((truth > forecast.members.max(axis=0)).mean()),
    }


def scores(
    forecast: Forecast,
    truth: Array,
    weights: Array | None,
    calibration: tuple[Forecast, Array, Sequence[Hashable]] | str,
) -> dict[str, Any]:
    """What one forecast has of truths (N,).

    Args:
        weights: (B, N) of `patient_resamples`, or None.
        calibration: a forecast of other cases by the same method, their truths and patients; or why there is none.

    Returns:
        ``crps``; by name of :data:`INTERVALS`, ``raw`` and ``conformal`` with :func:`interval_scores`, or `undefined`
        numbers; ``rank_histogram``.
    """
    found: dict[str, Any] = {"crps": similarity(forecast.crps(truth)[None], weights)}
    for name, (low, high) in INTERVALS.items():
        raw = forecast.reaches(name)
        other = calibration if isinstance(calibration, str) else too_few(calibration[2], high - low)
        found[name] = {
            "raw": _undefined(raw) if raw else interval_scores(forecast.ends(name), truth, weights),
            "conformal": _undefined(other)
            if other or isinstance(calibration, str)
            else interval_scores(conformal(forecast, *calibration, name), truth, weights),
        }
    return found | {"rank_histogram": rank_histogram(forecast, truth)}


def too_few(patients: Sequence[Hashable], share: float) -> str | None:
    """Why an interval cannot be conformalised on cases of these patients; None where it can."""
    needed, found = fewest_patients(share), len({str(patient) for patient in patients})
    if found >= needed:
        return None
    return f"not computable: a {share:.0%} interval needs {needed} or more validation patients, here {found}"


def _undefined(reason: str | None) -> dict[str, Any]:
    return {name: undefined(reason or "") for name in ("coverage", "width")}
