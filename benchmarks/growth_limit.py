"""How much of a nodule's growth can be predicted at baseline, and by how much could a copy of the baseline be beaten?

Median regressions of the measured change of the long diameter on the record and the measured baseline, fitted on the
training section. They minimise the mean absolute error, which evaluate.yaml gives too. No image is generated.

    python benchmarks/growth_limit.py DATASET
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import QuantileRegressor
from sklearn.model_selection import GridSearchCV, GroupKFold

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.data.datalist import load_datalist, pairs
from scripts.data.transforms import preprocessing
from scripts.ehr.encoding import record_encoder, records
from scripts.evaluation.nodules.growth import measure

IMAGE_SIZE = 64
TIMES = ("baseline", "follow_up")


class Nodules(NamedTuple):
    """The nodules of a section that fit their crop."""

    records: np.ndarray
    """(N, 13), of :func:`scripts.ehr.records`."""
    sizes: np.ndarray
    """Measured long diameters at baseline, mm (N,)."""
    changes: np.ndarray
    """Change of the measured long diameter to the follow-up, mm (N,)."""
    patients: np.ndarray
    """Patients (N,)."""
    fits: np.ndarray
    """Whether each case of the section is among them (all cases,)."""


def nodules(dataset: Path, section: str) -> Nodules:
    """Measures the real images of a section."""
    load = preprocessing(TIMES, IMAGE_SIZE)
    cases = [load(item) for item in pairs(dataset, section)]
    entries = load_datalist(dataset)[section]
    sizes, fits = [], np.ones(len(cases), dtype=bool)
    for time in TIMES:
        spacing = np.array([np.linalg.norm(case[time].meta["original_affine"], axis=-2)[:2] for case in cases])
        size = measure(np.stack([np.asarray(case[time]) for case in cases])[None], spacing)
        fits &= size.found[0] & ~size.cut[0]
        sizes.append(size.long[0])
    known = records(entries)
    patients = np.array([entry["patient_id"] for entry in entries])
    return Nodules(known[fits], sizes[0][fits], (sizes[1] - sizes[0])[fits], patients[fits], fits)


def main(dataset: Path) -> None:
    """Prints the table."""
    data = {section: nodules(dataset, section) for section in ("training", "validation", "test")}
    train = data["training"]
    encoder = record_encoder().fit(train.records)
    inputs = {name: np.column_stack([encoder.transform(each.records), each.sizes]) for name, each in data.items()}
    folds = GroupKFold(5)
    search = {
        "linear": (QuantileRegressor(quantile=0.5, solver="highs"), {"alpha": np.logspace(-4, -0.5, 8)}),
        "boosted trees": (
            GradientBoostingRegressor(loss="absolute_error", subsample=0.7, random_state=0),
            {"max_depth": [2, 3], "learning_rate": [0.02, 0.05], "n_estimators": [100, 300]},
        ),
    }
    predicted = {"copy of the baseline": {name: np.zeros(len(each.changes)) for name, each in data.items()}}
    for title, (model, grid) in search.items():
        found = GridSearchCV(model, grid, cv=folds, scoring="neg_mean_absolute_error")
        found.fit(inputs["training"], train.changes, groups=train.patients)
        predicted[title] = {name: found.predict(each) for name, each in inputs.items()}
    table = Table(
        "mean error of the long diameter, mm", *(f"{name} ({len(each.changes)})" for name, each in data.items())
    )
    for title, changes in predicted.items():
        table.add_row(title, *(f"{np.abs(changes[name] - data[name].changes).mean():.2f}" for name in data))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
