"""How good are forecasts of the long diameter out of fold, by the tables of `folds.py`, at which guidance?

Every nodule of training and validation is forecast once, by weights, references and corrections that were fitted on
other patients, but for the epochs of a fold's weights, which were chosen on the cases that it leaves out. Climatology
and quantile regression are fitted on the other folds' real follow-ups, the share of the runs' mean growth that is
believed and the corrections of intervals on the other folds' forecasts. Fair CRPS and coverage are means over the
trainings of the conditional stage, each by itself; intervals are over patients and trainings.

    python benchmarks/fold_sizes.py DATASET OUT
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer
from fold_choice import made, read_tables, trained
from folds import SEEDS, SIZES, Candidate, by_fold, identities
from forecasts import IMAGE_SIZE, known, sizes, take
from rich.console import Console
from rich.table import Table

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.arrays import Array
from scripts.data.digest import digest_dataset
from scripts.evaluation.nodules.forecasts import Section
from scripts.evaluation.nodules.growth import Indices
from scripts.evaluation.nodules.references import Dressed, QuantileRegression, climatology, copy
from scripts.evaluation.sections import open_sections
from scripts.evaluation.statistics.contrasts import mean_of_drawn
from scripts.evaluation.statistics.forecasts import INTERVALS, Forecast, conformal
from scripts.evaluation.statistics.metrics import patient_resamples, weighted_mean


class OutOfFold:
    """The nodules of training and validation that can be measured, in one order, with the fold of each.

    Args:
        out: with the tables of all folds; None where none is read.
    """

    def __init__(self, dataset: Path, out: Path | None = None) -> None:
        growth = Section(open_sections(dataset, ("training", "validation"), IMAGE_SIZE)).measured()
        table = identities(*by_fold(dataset)).set_index("case_id")
        if out and made(out)[0] != digest_dataset(dataset):
            raise SystemExit(f"{out}: its tables are of another dataset than {dataset}.")
        use, self.out = growth.measurable, out
        self.ids, self.patients = np.array(growth.cases.ids)[use], np.array(growth.cases.patients)[use]
        self.fold, self.oracle = (table.loc[self.ids, name].to_numpy() for name in ("fold", "oracle"))
        self.labels = growth.cases.labels[use]
        (self.before, self.truth), self.known = sizes(growth), known(growth)

    def runs(self, candidate: Candidate, seed: int) -> Array:
        """Long diameters (R, N) of what one training of each fold generated."""
        assert self.out is not None, "no tables"
        table = read_tables(self.out, candidate.recipe, seed, SIZES)
        guided = table[table["guidance"] == candidate.guidance]
        return guided.pivot(index="run", columns="case_id", values="long")[list(self.ids)].to_numpy()

    def growth(self, candidate: Candidate, seed: int) -> Array:
        """Mean log growth (N,) over the runs of one training of each fold."""
        return np.asarray(np.log(self.runs(candidate, seed) / self.before).mean(axis=0))

    def splits(self) -> list[tuple[Indices, Indices]]:
        """The cases to fit on, and those of the fold left out."""
        return [(np.flatnonzero(self.fold != each), np.flatnonzero(self.fold == each)) for each in np.unique(self.fold)]

    def growths(self) -> list[Array]:
        """The ratios of each fold to fit on; as many of every fold, drawn, so that forecasts have as many members."""
        fewest, drawn = min(len(fit) for fit, _ in self.splits()), np.random.default_rng(0)
        chosen = [drawn.choice(fit, fewest, replace=False) for fit, _ in self.splits()]
        return [self.truth[each] / self.before[each] for each in chosen]

    def together(self, parts: list[Forecast]) -> Forecast:
        """One forecast of all cases, by those of the folds left out."""
        members = np.empty((len(parts[0].members), len(self.truth)))
        for (_, judged), part in zip(self.splits(), parts, strict=True):
            members[:, judged] = part.members
        return Forecast(members, parts[0].drawn)

    def references(self) -> dict[str, list[Forecast]]:
        """Copy, climatology and regression of each nodule."""
        climate, regressed = [], []
        for (fit, judged), growth in zip(self.splits(), self.growths(), strict=True):
            climate.append(climatology(self.before[judged], growth))
            regression = QuantileRegression(self.known[fit], self.truth[fit] / self.before[fit])
            regressed.append(regression.forecast(self.known[judged], self.before[judged]))
        return {
            "copy of the baseline": [copy(self.before)],
            "climatology": [self.together(climate)],
            "quantile regression": [self.together(regressed)],
        }

    def recalibrated(self, runs: Array) -> Forecast:
        """Climatology moved by a share of the runs' mean growth, both of the other folds."""
        parts = []
        for (fit, judged), growth in zip(self.splits(), self.growths(), strict=True):
            fitted = Dressed(runs[:, fit], self.before[fit], self.truth[fit], growth)
            parts.append(fitted.forecast(runs[:, judged], self.before[judged]))
        return self.together(parts)

    def conformal(self, forecast: Forecast, name: str) -> Array:
        """Ends (2, N) of an interval, corrected on the other folds."""
        ends = np.empty((2, len(self.truth)))
        for fit, judged in self.splits():
            some = take(forecast, fit), self.truth[fit], list(self.patients[fit])
            ends[:, judged] = conformal(take(forecast, judged), *some, name)
        return ends


def main(dataset: Path, out: Path, resamples: int = 2000) -> None:
    """Prints the table."""
    found = OutOfFold(dataset, out)
    forecasts = found.references()
    for candidate in trained(out):
        runs = [found.runs(candidate, seed) for seed in SEEDS]
        forecasts[candidate.name] = [Forecast(each) for each in runs]
        forecasts[f"{candidate.name}, recalibrated"] = [found.recalibrated(each) for each in runs]
    weights = patient_resamples(list(found.patients), found.labels, resamples, seed=0)
    assert weights is not None, "too few patients for intervals"
    draws = np.random.default_rng(1).random((resamples, len(SEEDS)))

    def interval(scores: list[Array], digits: int = 3) -> str:
        """The mean of scores (N,) over trainings, and its interval."""
        values = np.stack(scores)
        low, high = np.percentile(mean_of_drawn(weighted_mean(values, weights), draws[:, : len(values)]), [2.5, 97.5])
        return f"{values.mean():.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    losses = {name: [each.crps(found.truth) for each in trainings] for name, trainings in forecasts.items()}
    (climate,) = losses["climatology"]
    columns = [f"{name[8:]} % {what}" for name in INTERVALS for what in ("raw", "conformal", "width, mm")]
    title = f"long diameter, {len(found.truth)} nodules of {len(set(found.patients))} patients, out of fold"
    table = Table("forecast", "CRPS, mm", "less climatology", *columns, title=title)
    for name, trainings in forecasts.items():
        row = [interval(losses[name]), interval([each - climate for each in losses[name]])]
        for key in INTERVALS:
            ends = [(each.ends(key), found.conformal(each, key)) for each in trainings]
            inside = [[(a <= found.truth) & (found.truth <= b) for a, b in some] for some in zip(*ends, strict=True)]
            raw, mended = (interval([each.astype(float) for each in some], 2) for some in inside)
            width = np.mean([b - a for _, (a, b) in ends])
            row += ["-" if trainings[0].reaches(key) else raw, mended, f"{width:.1f}"]
        table.add_row(name, *row)
    Console(width=200).print(table)


if __name__ == "__main__":
    typer.run(main)
