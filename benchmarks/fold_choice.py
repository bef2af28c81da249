"""Which candidate of `folds.py` tells patients apart out of fold, and what is published of weights like it?

It prints AUROC and regret of each candidate with intervals over patients and trainings, the simplest candidate within
one standard error of the best, and the epochs of each stage to train for on all these patients (`no_validation.yaml`).
It writes OUT/out_of_fold.csv and, of the chosen recipe, tables for `publish_reference.yaml`: probabilities, and
diameters of each guidance scale. What is chosen among candidates has an optimistic figure.

    python benchmarks/fold_choice.py OUT
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer
from folds import (
    CALLS,
    CANDIDATES,
    DIRECT,
    EPOCHS,
    IDENTITY,
    JUDGED,
    RECIPES,
    RUNS,
    SEEDS,
    SIZES,
    TIMES_READ,
    Candidate,
    conditional_folder,
)
from readers import IMAGE_SIZE
from rich.console import Console
from rich.table import Table
from scipy.special import logit

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.arrays import Array
from scripts.evaluation.statistics.calibration import CLIP
from scripts.evaluation.statistics.contrasts import mean_of_drawn
from scripts.evaluation.statistics.folds import FOLDS
from scripts.evaluation.statistics.metrics import auroc, patient_resamples, weighted_mean
from scripts.evaluation.statistics.recalibration import recalibrated
from scripts.evaluation.statistics.regret import divergence
from scripts.files import write_json


def trained(out: Path) -> list[Candidate]:
    """The candidates whose recipe has been trained, in all folds; the end where a table is missing."""
    recipes = [recipe for recipe in RECIPES if _table(out, 0, recipe, SEEDS[0]).exists()]
    for number, recipe, seed in product(range(FOLDS), recipes or RECIPES, SEEDS):
        if not (table := _table(out, number, recipe, seed)).exists():
            raise SystemExit(f"{table} is missing: train that fold first (--fold {number})")
    return [candidate for candidate in CANDIDATES if candidate.recipe in recipes]


def _table(out: Path, fold: int, recipe: str, seed: int, name: str = JUDGED) -> Path:
    return conditional_folder(out / f"fold_{fold}", recipe, seed) / name


def read_tables(out: Path, recipe: str, seed: int, name: str) -> pd.DataFrame:
    """The tables of one training of each fold, one below the other."""
    return pd.concat([pd.read_csv(_table(out, fold, recipe, seed, name)) for fold in range(FOLDS)], ignore_index=True)


def read(out: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The cases in order, and by method probabilities (seeds, cases)."""
    known: dict[str, np.ndarray] = {}
    for candidate in trained(out):
        tables = [read_tables(out, candidate.recipe, seed, JUDGED) for seed in SEEDS]
        known |= {name: tables[0][[name]].to_numpy().T for name in TIMES_READ.values()}
        known[candidate.name] = np.stack([table[f"{candidate.guidance:g}"].to_numpy() for table in tables])
    return tables[0][IDENTITY], known


def epochs(out: Path) -> dict[str, list[int]]:
    """The best epochs of each stage over folds and seeds."""
    of_folds = [json.loads((out / f"fold_{number}" / EPOCHS).read_text()) for number in range(FOLDS)]
    return {stage: [epoch for found in of_folds for epoch in found[stage]] for stage in of_folds[0]}


def main(out: Path, resamples: int = 2000) -> None:
    """Prints AUROC and regret out of fold with intervals over patients and trainings, and the chosen candidate."""
    cases, known = read(out)
    labels, oracle, patients = cases["malignant"].to_numpy(), cases["oracle"].to_numpy(), list(cases["patient_id"])
    corrected = {name: _recalibrated(values, labels, cases["fold"].to_numpy()) for name, values in known.items()}
    telling = _varied(known, lambda values, weights: auroc(values, labels, weights), patients, labels, resamples)
    columns = ["AUROC", "less baseline", "regret", "of baseline's", "regret, recalibrated", "of baseline's"]
    table = Table("judged", *columns, title=f"{len(labels)} cases out of fold, intervals over patients and trainings")
    regrets = [
        _varied(
            each,
            lambda values, weights: weighted_mean(divergence(oracle, values), weights),
            patients,
            labels,
            resamples,
        )
        for each in (known, corrected)
    ]
    for name in known:
        row = [_interval(telling[name]), _interval(telling[name] - telling["baseline"])]
        for regret in regrets:  # the follow-up shows growth, which this oracle does not know
            told = name != "follow-up" and np.isfinite(regret[name]).all()
            row += [_interval(regret[name]), _interval(regret[name] / regret["baseline"])] if told else ["-", "-"]
        table.add_row(name, *row)
    candidates = trained(out)
    best = telling[max(candidates, key=lambda each: telling[each.name][0]).name]
    chosen = next(each for each in candidates if telling[each.name][0] >= best[0] - np.nanstd(best[1:]))
    Console(width=160).print(table)
    print(f"Chosen: {chosen.name}; chosen among {len(candidates)}, its figure is optimistic.")
    for stage, found in epochs(out).items():
        if found:
            print(f"Epochs of {stage}: median {int(np.median(found))} of {sorted(found)}")
    write_tables(out, cases, known, chosen)


def _varied(
    known: Mapping[str, Array],
    score: Callable[[Array, Array | None], Array],
    patients: list[str],
    labels: Array,
    resamples: int,
) -> dict[str, Array]:
    """Of each method's trainings (S, N) the mean score, and then that of each resample of patients and trainings."""
    weights = patient_resamples(patients, labels, resamples, seed=0)
    assert weights is not None, "too few patients for intervals"
    draws = np.random.default_rng(1).random((resamples, len(SEEDS)))
    return {
        name: np.r_[score(values, None).mean(), mean_of_drawn(score(values, weights), draws[:, : len(values)])]
        for name, values in known.items()
    }


def _interval(varied: Array) -> str:
    low, high = np.nanpercentile(varied[1:], [2.5, 97.5])
    return f"{varied[0]:.3f} [{low:.3f}, {high:.3f}]"


def _recalibrated(values: Array, labels: Array, fold: Array) -> Array:
    """Probabilities (S, N), each fold's after a logistic regression on the others."""
    log_odds = logit(np.clip(values, CLIP, 1 - CLIP))
    return np.stack([recalibrated(each, labels, fold)["intercept_and_slope"][0] for each in log_odds])


def write_tables(out: Path, cases: pd.DataFrame, known: dict[str, Array], chosen: Candidate) -> None:
    """All probabilities in one table, and tables of weights like the chosen ones, as `publish_reference.yaml` has them.

    Probabilities are means over the trainings of the conditional stage, diameters those of the first one.
    """
    long = [
        cases.assign(method=name, run=seed, probability=values)
        for name, runs in known.items()
        for seed, values in enumerate(runs)
    ]
    pd.concat(long).to_csv(out / "out_of_fold.csv", index=False)
    direct = pd.concat([pd.read_csv(out / f"fold_{fold}" / DIRECT) for fold in range(FOLDS)]).set_index("case_id")
    tables = {
        "generated": known[chosen.name].mean(axis=0),
        "baseline": known["baseline"][0],
        "direct_classifier": direct.loc[cases["case_id"], "probability"].to_numpy(),
    }
    made = {"num_runs": RUNS, "num_steps": CALLS, "solver": "dpmpp", "image_size": IMAGE_SIZE}
    for name, values in tables.items():
        table = pd.DataFrame({"case_id": cases["case_id"], "run": 0, "probability": values})
        _write(out / f"{name}.csv", table, {"guidance_scale": chosen.guidance, **made} if name == "generated" else None)
    sizes = read_tables(out, chosen.recipe, SEEDS[0], SIZES)
    for guidance, table in sizes.groupby("guidance"):
        _write(out / f"sizes_{guidance:g}.csv", table.drop(columns="guidance"), {"guidance_scale": guidance, **made})


def _write(path: Path, table: pd.DataFrame, sampling: dict[str, Any] | None) -> None:
    table.to_csv(path, index=False)
    if sampling:
        write_json(path.with_suffix(".json"), {"sampling": sampling})


if __name__ == "__main__":
    typer.run(main)
