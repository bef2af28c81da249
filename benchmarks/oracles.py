"""What can be known of cohorts with a known answer: the oracle by each law, the record alone, and both controls.

Cohorts are drawn on given baselines with several seeds; no image is made. Record and size alone are a logistic
regression on the record and the long diameter, by five-fold cross-validation grouped by patient.

    python benchmarks/oracles.py BASELINES
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.table import Table
from scipy.special import rel_entr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

import data_prep  # noqa: F401 (puts the bundle on the path)
from data_prep.progression import Control
from data_prep.progression.baselines import read
from data_prep.progression.cohort import draw, telling
from data_prep.progression.laws import read as read_law
from data_prep.progression.record import RECORD, UPPER

COLUMNS = {
    "oracle": "AUROC of the oracle: rating and record",
    "growth": "growth alone",
    "all": "the oracle with growth",
    "least": "least log loss: rating and record",
    "least_all": "with growth",
    "record": "AUROC of record and size alone",
    "regret": "its regret, nats",
}


def regression(table: pd.DataFrame) -> np.ndarray:
    """Probabilities (N,) of the regression on the record, out of fold."""
    features = table[[*RECORD]].assign(upper=table["sct_epi_loc"].isin(UPPER), size=np.log(table["sct_long_dia"]))
    model, groups = LogisticRegression(max_iter=1000), table["patient_id"]
    standard = (features - features.mean()) / features.std()
    return cross_val_predict(
        model, standard, table["malignant"], groups=groups, cv=GroupKFold(5), method="predict_proba"
    )[:, 1]


def measured(table: pd.DataFrame) -> dict[str, float]:
    """The numbers of one cohort, by :data:`COLUMNS`."""
    y, p, q = table["malignant"], table["oracle"], regression(table)
    auroc = {name: roc_auc_score(y, table[column]) for name, column in (("oracle", "oracle"), ("all", "oracle_growth"))}
    return auroc | {
        "growth": roc_auc_score(y, table["simulated_growth"]),
        "least": log_loss(y, p),
        "least_all": log_loss(y, table["oracle_growth"]),
        "record": roc_auc_score(y, q),
        "regret": float((rel_entr(p, q) + rel_entr(1 - p, 1 - q)).mean()),
    }


def main(baselines: Path, seeds: int = 20) -> None:
    """Prints a row for each law and control, means and standard deviations over the seeds."""
    table, real = read(baselines), read_law("real")
    cohorts = {
        "published": (read_law("published"), None),
        "real": (real, None),
        "real, records permuted": (real, Control.PERMUTED),
        "real, outcome told": (telling(real), Control.TOLD),
    }
    shown = Table("law", *COLUMNS.values())
    for name, (law, control) in cohorts.items():
        drawn = (draw(table, law, seed, permuted=control is Control.PERMUTED) for seed in range(seeds))
        rows = pd.DataFrame([measured(each) for each in drawn])
        shown.add_row(name, *(f"{rows[key].mean():.3f} ({rows[key].std():.3f})" for key in COLUMNS))
    Console(width=160).print(f"{len(table)} nodules, {seeds} seeds: mean (standard deviation over seeds)")
    Console(width=160).print(shown)


if __name__ == "__main__":
    typer.run(main)
