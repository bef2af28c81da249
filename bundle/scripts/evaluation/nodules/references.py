"""What a forecast of size has to be held against: a copy of the baseline, climatology, and quantile regression.

All of them speak of the ratio of a diameter at follow-up to that at baseline. Growth multiplies a diameter, and on the
training section of LIDC-progression climatology by ratios has a lower CRPS, patients left out in turn, than by
differences (benchmarks/README.md). N is the number of forecast cases, T of training cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scripts.arrays import Array
from scripts.ehr.features import EHR_FEATURES, FEATURES
from scripts.evaluation.statistics.forecasts import Forecast

LEVELS = (np.arange(30) + 0.5) / 30
"""Of the fitted quantiles; the ends of intervals, 5, 25, 75 and 95 %, are among them."""

FEWEST = 19
"""Training cases below which there is no climatology: 90 % intervals of their growth would have no ends."""

BOOSTING = {"max_iter": 30, "learning_rate": 0.1, "max_leaf_nodes": 3, "min_samples_leaf": 20}
"""Of the quantile regression: the least CRPS of five by cross-validation on LIDC-progression's training section."""


def copy(before: Array) -> Forecast:
    """The forecast that nothing changes: the baseline's diameters (N,), without spread."""
    return Forecast(before[None], drawn=False)


def climatology(before: Array, growth: Array) -> Forecast:
    """Every growth that training has seen, at every baseline, whoever the patient is.

    Args:
        before: diameters at baseline (N,).
        growth: training's ratios (T,).

    Example:
        >>> climatology(np.array([10.0]), np.array([1.0, 1.2])).members.tolist()
        [[10.0], [12.0]]
    """
    return Forecast(before * growth[:, None])


PREDICTORS = (*EHR_FEATURES, "log_diameter", "days")
"""What the regression reads, the columns of :func:`predictors`."""


class QuantileRegression:
    """Quantiles of growth given the record, the measured diameter at baseline and the interval, by boosted trees.

    Scikit-learn's ``HistGradientBoostingRegressor`` minimises the quantile loss of each level (Koenker and Bassett
    1978). Quantiles that cross are sorted (Chernozhukov et al. 2010). What is not known stays unknown to the trees;
    what does not vary in training is left out.

    Args:
        known: of the training cases (T, F), of :func:`predictors`.
        growth: their ratios (T,).
    """

    def __init__(self, known: Array, growth: Array) -> None:
        from sklearn.ensemble import HistGradientBoostingRegressor  # measuring does not wait for it

        self.told = np.array([len(np.unique(column[np.isfinite(column)])) > 1 for column in known.T])
        coded = [name in EHR_FEATURES and bool(FEATURES[name].codes) for name in PREDICTORS]
        self.models = [
            HistGradientBoostingRegressor(
                loss="quantile",
                quantile=level,
                categorical_features=np.array(coded)[self.told],
                early_stopping=False,
                random_state=0,
                **BOOSTING,
            ).fit(known[:, self.told], np.log(growth))
            for level in LEVELS
        ]

    def forecast(self, known: Array, before: Array) -> Forecast:
        """The forecast at diameters (N,), given :func:`predictors` (N, F)."""
        growth = np.exp(np.sort([model.predict(known[:, self.told]) for model in self.models], axis=0))
        return Forecast(before * growth, drawn=False)


def predictors(records: Sequence[Mapping[str, float]], before: Array, days: Array) -> Array:
    """Records, logarithms of diameters (N,) and days, as (N, F); NaN where a feature is not known."""
    rows = [[record.get(name, np.nan) for name in EHR_FEATURES] for record in records]
    return np.column_stack([np.array(rows, dtype=float).reshape(-1, len(EHR_FEATURES)), np.log(before), days])


class Dressed:
    """A case's mean growth over its runs, shrunk, with the spread of training's growth about it.

    log growth = b (m - M) + log g: m is the mean of log growth over the runs, M that of all cases it is fitted on, g a
    growth that training has seen. The share b, from 0 to 1, has the least CRPS on cases on which the runs' generator
    was not fitted. With b = 0 the forecast is climatology's, and the runs tell nothing. To give runs the spread of what
    was seen before is known as dressing (Roulston and Smith 2003).

    Args:
        runs: draws of the cases to fit on (M, V), in mm.
        before, truth: their diameters at baseline and follow-up (V,).
        growth: training's ratios (T,).
    """

    def __init__(self, runs: Array, before: Array, truth: Array, growth: Array) -> None:
        from scipy.optimize import minimize_scalar

        def loss(share: float) -> float:
            self.share = share
            return float(self.forecast(runs, before).crps(truth).mean())

        self.growth, self.middle = growth, float(_mean_growth(runs, before).mean())
        self.share = float(minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded").x)

    def forecast(self, runs: Array, before: Array) -> Forecast:
        """The forecast of cases with draws (M, N) at diameters (N,)."""
        shift = self.share * (_mean_growth(runs, before) - self.middle)
        return climatology(before * np.exp(shift), self.growth)


def _mean_growth(runs: Array, before: Array) -> Array:
    """The mean over runs (M, N) of the logarithm of growth since the diameters (N,)."""
    return np.log(runs / before).mean(axis=0)
