"""How good are generated follow-ups as forecasts of the long diameter, out of fold, and what do the runs tell?

On the cases of validation and test together, which trained no weights: what is fitted on held-out cases (the share of
the runs' mean growth that is believed, the correction of intervals) is fitted on four fifths of the patients and judged
on the others, in turn. Climatology and quantile regression are fitted on the training section, as in evaluate.yaml.

    python benchmarks/forecasts.py DATASET PREDICTIONS ...

PREDICTIONS hold follow-ups of both sections; each is a row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from sklearn.model_selection import GroupKFold

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.arrays import Array
from scripts.evaluation.nodules.forecasts import Section
from scripts.evaluation.nodules.growth import Growth
from scripts.evaluation.nodules.references import Dressed, QuantileRegression, climatology, copy, predictors
from scripts.evaluation.sections import open_section
from scripts.evaluation.statistics.forecasts import INTERVALS, Forecast, conformal, crps, interval_scores
from scripts.evaluation.statistics.metrics import patient_resamples, similarity
from scripts.predictions import read_predictions

IMAGE_SIZE = 64
HELD_OUT = ("validation", "test")


def measured(dataset: Path, folders: list[Path]) -> tuple[Growth, list[Growth]]:
    """The nodules of training, and of the two held-out sections with their runs."""
    training = Section(open_section(dataset, "training", IMAGE_SIZE)).measured()
    others = []
    for section in HELD_OUT:
        study = open_section(dataset, section, IMAGE_SIZE)
        others.append(Section(study, {str(f): read_predictions(f, study.cases.ids) for f in folders}).measured())
    return training, others


def sizes(growth: Growth) -> tuple[Array, Array]:
    """Long diameters of baseline and follow-up that can be measured."""
    return tuple(each["measured"].long[0, growth.measurable] for each in (growth.before, growth.after))  # type: ignore[return-value]


def known(growth: Growth) -> Array:
    """What the regression reads of them."""
    use = np.flatnonzero(growth.measurable)
    return predictors([growth.cases.records[index] for index in use], sizes(growth)[0], growth.days[use])


def take(forecast: Forecast, cases: Array) -> Forecast:
    return Forecast(forecast.members[:, cases], forecast.drawn)


def ways_of_climatology(training: Growth) -> dict[str, float]:
    """The CRPS on the training section of growth added as a ratio or as a difference, each patient left out in turn."""
    before, after = sizes(training)
    patients = np.array(training.cases.patients)[training.measurable]
    found: dict[str, list[float]] = {"ratio": [], "difference": []}
    for index, patient in enumerate(patients):
        others = patients != patient
        ratios, differences = after[others] / before[others], after[others] - before[others]
        for name, members in (("ratio", before[index] * ratios), ("difference", before[index] + differences)):
            found[name].append(float(crps(members[:, None], after[index : index + 1])[0]))
    return {name: float(np.mean(each)) for name, each in found.items()}


def interval(score: dict, digits: int = 3) -> str:
    return f"{score['mean']:.{digits}f} [{score['ci95'][0]:.{digits}f}, {score['ci95'][1]:.{digits}f}]"


def main(dataset: Path, predictions: list[Path]) -> None:
    """Prints the tables."""
    console, (training, others) = Console(width=200), measured(dataset, predictions)
    console.print("CRPS of climatology within training:", ways_of_climatology(training))
    (start, end), pairs = sizes(training), [sizes(each) for each in others]
    before, truth = (np.concatenate(each) for each in zip(*pairs, strict=True))
    patients = np.concatenate([np.array(each.cases.patients)[each.measurable] for each in others])
    labels = np.concatenate([each.cases.labels[each.measurable] for each in others])
    weights, folds = patient_resamples(patients, labels, 2000, 0), list(GroupKFold(5).split(before, groups=patients))
    regression = QuantileRegression(known(training), end / start)
    forecasts = {
        "copy of the baseline": copy(before),
        "climatology": climatology(before, end / start),
        "quantile regression": regression.forecast(np.concatenate([known(each) for each in others]), before),
    }
    for folder in map(str, predictions):
        runs = np.concatenate([each.measured[folder].long[:, each.measurable] for each in others], axis=1)
        forecasts[folder], dressed, shares = Forecast(runs), np.empty((len(start), len(truth))), []
        for fit, judged in folds:
            fitted = Dressed(runs[:, fit], before[fit], truth[fit], end / start)
            dressed[:, judged] = fitted.forecast(runs[:, judged], before[judged]).members
            shares.append(fitted.share)
        forecasts[f"{folder}, recalibrated"] = Forecast(dressed)
        told = np.corrcoef(np.log(runs / before).mean(axis=0), np.log(truth / before))[0, 1]
        console.print(
            f"{folder}: correlation of mean log growth with the true one {told:.2f}; shares {np.round(shares, 2)}"
        )
    losses = {name: each.crps(truth) for name, each in forecasts.items()}
    columns = (
        "CRPS, mm",
        "less climatology",
        *(f"{name[8:]} % {what}" for name in INTERVALS for what in ("raw", "conformal, width")),
    )
    table = Table(f"long diameter, {len(truth)} nodules, {len(set(patients))} patients", *columns)
    for name, forecast in forecasts.items():
        cells = [
            interval(similarity(loss[None], weights)) for loss in (losses[name], losses[name] - losses["climatology"])
        ]
        for key in INTERVALS:
            ends = np.empty((2, len(truth)))
            for fit, judged in folds:
                some = take(forecast, fit), truth[fit], patients[fit]
                ends[:, judged] = conformal(take(forecast, judged), *some, key)
            raw, mended = (interval_scores(each, truth, weights) for each in (forecast.ends(key), ends))
            cells += ["-" if forecast.reaches(key) else interval(raw["coverage"], 2)]
            cells += [f"{interval(mended['coverage'], 2)}, {mended['width']['mean']:.1f} mm"]
        table.add_row(name, *cells)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
