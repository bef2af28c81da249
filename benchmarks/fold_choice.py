"""Which candidate of `folds.py` tells patients apart out of fold, and what is published of weights like it?

It prints AUROC (all folds together) and regret of each candidate, the simplest candidate whose difference from the best
is within its standard error, and the epochs of each stage to train for on all these patients (`no_validation.yaml`).
Intervals and errors are over patients and trainings of the conditional stage, drawn with replacement, so that three
show two thirds of their variance; autoencoder, unconditional stage and judge are trained once a fold, and how these
vary is not in them. The epochs of every stage were chosen on the cases left out. It writes OUT/out_of_fold.csv and, of
the chosen recipe, tables for `publish_reference.yaml`: probabilities, and diameters of each guidance scale. What is
chosen among candidates has an optimistic figure.

    python benchmarks/fold_choice.py OUT [--judge 0.4.0]

With --judge it prints what a further judge of `folds.py` says of the same images, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import typer
from folds import (
    CALLS,
    CANDIDATES,
    CONFIGS,
    DIRECT,
    IDENTITY,
    JUDGED,
    MADE,
    RECIPES,
    RUNS,
    SEEDS,
    SIZES,
    TIMES_READ,
    Candidate,
    conditional_folder,
)
from monai.bundle import ConfigParser
from readers import IMAGE_SIZE
from rich.console import Console
from rich.table import Table

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.arrays import Array
from scripts.conditioning import ReportConditioner
from scripts.evaluation.statistics.calibration import log_odds_of
from scripts.evaluation.statistics.contrasts import mean_of_drawn
from scripts.evaluation.statistics.folds import FOLDS
from scripts.evaluation.statistics.metrics import auroc, patient_resamples, weighted_mean
from scripts.evaluation.statistics.recalibration import recalibrated
from scripts.evaluation.statistics.regret import divergence
from scripts.files import read_mapping, write_json

Name = TypeVar("Name")
BY_EPOCH = "the epochs of each fold were chosen on the cases left out"
"""What is noted beside every table."""


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


def read(out: Path, judge: str = "") -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The cases in order, and by method probabilities (seeds, cases); of a further judge where one is named."""
    by = f" by {judge}" if judge else ""
    columns = [f"{name}{by}" for name in TIMES_READ.values()]
    known: dict[str, np.ndarray] = {}
    cases: pd.DataFrame | None = None
    real: pd.DataFrame | None = None
    for candidate in trained(out):
        tables = [read_tables(out, candidate.recipe, seed, JUDGED) for seed in SEEDS]
        for table in tables:
            if missing := sorted({*columns, f"{candidate.guidance:g}{by}"} - set(table)):
                raise SystemExit(f"{out}: a table of {candidate.recipe} has no {missing[0]!r}: of another judge?")
            cases = table[IDENTITY] if cases is None else cases
            if not table[IDENTITY].equals(cases) or cases["case_id"].duplicated().any():
                raise SystemExit(
                    f"{out}: the tables of {candidate.recipe} are not of the same cases in the same order."
                )
            real = real if real is not None else table[columns]
            if not np.allclose(table[columns], real, rtol=0, atol=1e-6):
                raise SystemExit(f"{out}: the tables of {candidate.recipe} are of other judges; expected one a fold.")
        known |= {name: tables[0][[f"{name}{by}"]].to_numpy().T for name in TIMES_READ.values()}
        known[candidate.name] = np.stack([table[f"{candidate.guidance:g}{by}"].to_numpy() for table in tables])
    assert cases is not None
    return cases, known


def made(out: Path) -> tuple[str, dict[str, list[int]]]:
    """The digest of the dataset of all folds; and the best epochs over folds of each stage or recipe's trainings."""
    of_folds = [read_mapping(out / f"fold_{number}" / MADE) for number in range(FOLDS)]
    digests = {each.pop("dataset") for each in of_folds}
    if len(digests) > 1:
        raise SystemExit(f"{out}: folds of {len(digests)} datasets; expected one.")
    epochs: dict[str, list[int]] = {}
    for name, epoch in ((name, epoch) for each in of_folds for name, epoch in each.items()):
        epochs.setdefault(name.partition("_seed_")[0], []).append(epoch)
    for name, found in epochs.items():
        if len(found) % FOLDS:
            raise SystemExit(
                f"{out}: {MADE} of some folds do not say the best epoch of {name}; remove its tables there and run "
                "folds.py again."
            )
    return digests.pop(), epochs


def main(out: Path, resamples: int = 2000, judge: str = "") -> None:
    """Prints AUROC and regret out of fold with intervals over patients and trainings, and the chosen candidate."""
    cases, known = read(out, judge)
    labels, oracle, patients = cases["malignant"].to_numpy(), cases["oracle"].to_numpy(), list(cases["patient_id"])
    corrected = {name: _recalibrated(values, labels, cases["fold"].to_numpy()) for name, values in known.items()}
    telling = varied(known, lambda values, weights: auroc(values, labels, weights), patients, labels, resamples)
    columns = ["AUROC", "less baseline", "regret", "of baseline's", "regret, recalibrated", "of baseline's"]
    table = Table(
        "judged",
        *columns,
        title=f"{len(labels)} cases out of fold (which chose the epochs), intervals over patients and trainings"
        + (f"; judge {judge}" if judge else ""),
    )
    regrets = [
        varied(
            each,
            lambda values, weights: weighted_mean(divergence(oracle, values), weights),
            patients,
            labels,
            resamples,
            stratified=False,
        )
        for each in (known, corrected)
    ]
    for name in known:
        row = [interval(telling[name]), interval(telling[name] - telling["baseline"])]
        for regret in regrets:  # the follow-up shows growth, which this oracle does not know
            told = name != "follow-up" and np.isfinite(regret[name]).all()
            row += [interval(regret[name]), interval(regret[name] / regret["baseline"])] if told else ["-", "-"]
        table.add_row(name, *row)
    candidates, (digest, epochs) = trained(out), made(out)
    best = telling[max(candidates, key=lambda each: telling[each.name][0]).name]
    less = {each: best - telling[each.name] for each in candidates}
    chosen = next(each for each in candidates if less[each][0] <= np.nanstd(less[each][1:]))
    note = f"recipe and guidance were chosen among {len(candidates)} on these cases"
    Console(width=200).print(table)
    if judge:
        return
    print(f"Chosen: {chosen.name}; {note}, so that its figure is optimistic.")
    for name, found in epochs.items():
        print(f"Epochs of {name}: median {int(np.median(found))} of {sorted(found)}")
    settings = conditioner_settings(chosen.recipe)
    write_tables(out, cases, known, chosen, {"dataset": digest, "conditioner": settings, "note": f"{BY_EPOCH}; {note}"})


def conditioner_settings(recipe: str) -> dict[str, Any]:
    """Of the prompts of a recipe, which weights that are published by its tables must have too."""
    parser = ConfigParser()
    parser.read_config([CONFIGS / f"{name}.yaml" for name in ("train_conditional", "small", *RECIPES[recipe])])
    defaults = signature(ReportConditioner).parameters
    given = parser["conditioner_arguments"]
    return {name: given.get(name, defaults[name].default) for name in ("num_prompt_sets", "prompt_length")}


def varied(
    known: Mapping[Name, Array],
    score: Callable[[Array, Array | None], Array],
    patients: list[str],
    labels: Array,
    resamples: int,
    stratified: bool = True,
) -> dict[Name, Array]:
    """Of each method's trainings (S, N) the mean score, and then that of each resample of patients and trainings.

    What is not of each outcome alone, as regret, varies with their shares too: it is not to be stratified by outcome.
    """
    weights = patient_resamples(patients, labels, resamples, seed=0, stratified=stratified)
    assert weights is not None, "too few patients for intervals"
    draws = np.random.default_rng(1).random((resamples, len(SEEDS)))
    return {
        name: np.r_[score(values, None).mean(), mean_of_drawn(score(values, weights), draws[:, : len(values)])]
        for name, values in known.items()
    }


def interval(varied: Array) -> str:
    """What :func:`varied` gives of a method, in words."""
    low, high = np.nanpercentile(varied[1:], [2.5, 97.5])
    return f"{varied[0]:.3f} [{low:.3f}, {high:.3f}]"


def _recalibrated(values: Array, labels: Array, fold: Array) -> Array:
    """Probabilities (S, N), each fold's after a logistic regression on the others."""
    return np.stack([recalibrated(each, labels, fold)["intercept_and_slope"][0] for each in log_odds_of(values)])


def write_tables(
    out: Path, cases: pd.DataFrame, known: dict[str, Array], chosen: Candidate, record: dict[str, Any]
) -> None:
    """All probabilities in one table, and tables of weights like the chosen ones, as `publish_reference.yaml` has them.

    These are of one training of each fold, since one is published; the mean of several would tell more.
    """
    long = [
        cases.assign(method=name, run=seed, probability=values)
        for name, runs in known.items()
        for seed, values in enumerate(runs)
    ]
    pd.concat(long).to_csv(out / "out_of_fold.csv", index=False)
    direct = pd.concat([pd.read_csv(out / f"fold_{fold}" / DIRECT) for fold in range(FOLDS)]).set_index("case_id")
    tables = {
        "generated": known[chosen.name][0],
        "baseline": known["baseline"][0],
        "direct_classifier": direct.loc[cases["case_id"], "probability"].to_numpy(),
    }
    sampling = {"num_runs": RUNS, "num_steps": CALLS, "solver": "dpmpp", "image_size": IMAGE_SIZE}
    for name, values in tables.items():
        table = pd.DataFrame({"case_id": cases["case_id"], "run": 0, "probability": values})
        told = record if name == "generated" else record | {"note": BY_EPOCH}
        guided = {"sampling": {"guidance_scale": chosen.guidance, **sampling}} if name == "generated" else {}
        _write(out / f"{name}.csv", table, told | guided)
    for guidance, table in read_tables(out, chosen.recipe, SEEDS[0], SIZES).groupby("guidance"):
        made_by = {"sampling": {"guidance_scale": guidance, **sampling}}
        _write(out / f"sizes_{guidance:g}.csv", table.drop(columns="guidance"), record | made_by)


def _write(path: Path, table: pd.DataFrame, record: dict[str, Any]) -> None:
    table.to_csv(path, index=False)
    write_json(path.with_suffix(".json"), record)


if __name__ == "__main__":
    typer.run(main)
