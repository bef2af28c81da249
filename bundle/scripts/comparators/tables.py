"""Comparisons that make no image: the outcome from the record alone, and from the baseline crop and the record.

Each leaves a table that evaluation reads beside the generated follow-ups: CSV with the columns ``case_id``, ``run`` and
``probability`` (of malignancy), a row a case and run, for every case of the validation and the test split.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import pandas as pd
import torch
from monai.data import DataLoader
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, make_scorer
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from torch import Tensor, nn

from scripts.data import SECTIONS, load_datalist, outcome
from scripts.ehr import Array, record_encoder, records
from scripts.engines import prepare_crop_batch
from scripts.errors import UserError
from scripts.handlers import Checkpoint
from scripts.networks import NoduleClassifier
from scripts.predictions import listed

logger = logging.getLogger(__name__)

COLUMNS = ("case_id", "run", "probability")
HELD_OUT = SECTIONS[1:]

STRENGTHS = np.logspace(-4, 2, 13)
"""What C, the inverse of the L2 penalty's weight, may be."""


class BaselineError(UserError):
    """A comparison that cannot be made or read; the message names the file or split at fault."""


# ---- attributes alone ------------------------------------------------------------------------------------------------


def attribute_regression(dataset_dir: str | Path, folds: int = 5, seed: int = 0) -> GridSearchCV:
    """Logistic regression of the outcome on the record, fitted on the training split; an outcome unknown is left out.

    The L2 penalty is the one of `STRENGTHS` with the lowest log loss in cross-validation within that split, in which
    the cases of a patient stay together; encoder and regression are then fitted on all of it.

    Args:
        folds: fewer where not that many patients have a malignant, or a benign, case.

    Raises:
        BaselineError: fewer than two patients with a malignant, or with a benign, case.
    """
    cases = [case for case in load_datalist(dataset_dir)["training"] if not math.isnan(outcome(case))]
    labels = np.array([outcome(case) for case in cases])
    patients = np.array([case["patient_id"] for case in cases])
    least = min(len(np.unique(patients[labels == label])) for label in (0, 1))
    if least < 2:
        raise BaselineError(
            f"{dataset_dir}: its training section has fewer than two patients with a malignant, or with a benign, "
            "case; cross-validation needs two of each. Give it more patients whose outcome is known."
        )
    search = GridSearchCV(
        Pipeline([("record", record_encoder()), ("regression", LogisticRegression(max_iter=1000))]),
        {"regression__C": STRENGTHS},
        scoring=make_scorer(log_loss, greater_is_better=False, response_method="predict_proba", labels=[0, 1]),
        cv=StratifiedGroupKFold(min(folds, least), shuffle=True, random_state=seed),
        error_score="raise",
    )
    search.fit(records(cases), labels, groups=patients)
    logger.info(
        f"C = {search.best_params_['regression__C']:.3g} of {len(cases)} cases, log loss {-search.best_score_:.3f}"
    )
    return search


def predict_attributes(model: GridSearchCV, dataset_dir: str | Path, table: str | Path) -> None:
    """Writes the probabilities of all cases held out into ``table``, as run 0."""
    cases = _cases(dataset_dir, HELD_OUT)
    write_table(table, 0, [case["case_id"] for case in cases], model.predict_proba(records(cases))[:, 1])


# ---- baseline crop and record ----------------------------------------------------------------------------------------


class DirectClassifier(nn.Module):
    """The judge's network on the baseline crop, with the record beside its features in the last linear layer.

    That layer begins as the regression on the record, so that training is left with what the crop adds. Begun at random
    it knows the crops by heart before it has learned to read the record.

    Args:
        classifier: whose last layer is taken from it and replaced.
        regression: of :func:`attribute_regression`.
    """

    def __init__(self, classifier: NoduleClassifier, regression: GridSearchCV) -> None:
        super().__init__()
        fitted = regression.best_estimator_["regression"]
        width = classifier.width
        self.reader = classifier
        self.reader.head = nn.Identity()  # read by none, and would have no gradients
        self.head = nn.Linear(width + fitted.coef_.shape[1], 1)
        with torch.no_grad():
            self.head.weight[:, :width] = 0.0
            self.head.weight[:, width:] = torch.from_numpy(fitted.coef_)
            self.head.bias[:] = torch.from_numpy(fitted.intercept_)

    def forward(self, crops: Tensor, record: Tensor) -> Tensor:
        """Logits (B, 1) of malignancy for baseline crops (B, 1, H, W) in [-1, 1] and records of `direct_items`."""
        return self.head(torch.cat([self.reader(crops), record], dim=1))


def direct_items(dataset_dir: str | Path, sections: Sequence[str], regression: GridSearchCV) -> list[dict[str, Any]]:
    """MONAI items ``case_id``, ``image`` (the baseline's path), ``record`` (float32), ``malignant`` (NaN: unknown).

    The record is in the numbers that the regression reads.
    """
    encoder = regression.best_estimator_["record"]
    cases = _cases(dataset_dir, sections)
    return [
        {
            "case_id": case["case_id"],
            "image": str(Path(dataset_dir) / case["baseline"]),
            "record": numbers,
            "malignant": outcome(case),
        }
        for case, numbers in zip(cases, encoder.transform(records(cases)).astype(np.float32), strict=True)
    ]


def prepare_direct_batch(
    batch: Mapping[str, Any], device: torch.device | str | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor], dict[str, Any]]:
    """The classifier's batch, with the record as the network's second argument."""
    image, target = prepare_crop_batch(batch, device, non_blocking, **kwargs)
    return image, target, (batch["record"].to(image),), {}


@torch.no_grad()
def predict_direct(checkpoint: Checkpoint, network: nn.Module, dataset: Any, table: str | Path, run: int) -> None:
    """Writes the best epoch's probabilities of the items of ``dataset`` into ``table``, as one run of it."""
    logger.info(f"Best epoch {checkpoint.load_best()}")
    if idist.get_rank() != 0:
        return
    device = next(network.parameters()).device
    case_ids: list[str] = []
    probabilities: list[float] = []
    for batch in DataLoader(dataset, batch_size=64):
        image, _, record, _ = prepare_direct_batch(batch, device)
        case_ids += batch["case_id"]
        probabilities += network.eval()(image, *record).sigmoid().flatten().tolist()
    write_table(table, run, case_ids, probabilities)


def _cases(dataset_dir: str | Path, sections: Sequence[str]) -> list[dict[str, Any]]:
    """The datalist's cases of some sections."""
    datalist = load_datalist(dataset_dir)
    return [case for section in sections for case in datalist[section]]


# ---- tables of probabilities -----------------------------------------------------------------------------------------


def write_table(path: str | Path, run: int, case_ids: Sequence[str], probabilities: Sequence[float] | Array) -> None:
    """Puts one run into a table, whole or not at all: in place of that run if it is there, beside the others."""
    path = Path(path)
    new = pd.DataFrame({"case_id": case_ids, "run": run, "probability": probabilities})
    if path.is_file():
        old = _table(path)
        new = pd.concat([old[old["run"] != run], new]).sort_values("run", kind="stable")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    new.to_csv(partial, index=False, float_format="%.6g")
    os.replace(partial, path)
    logger.info(f"Wrote run {run} of {path}: {len(case_ids)} cases")


def read_table(path: str | Path, case_ids: Sequence[str]) -> Array:
    """All runs of some cases from such a table, (runs, cases); other cases may stand in it too.

    Args:
        case_ids: in the order wanted.

    Raises:
        BaselineError: no such table, a column absent, cases absent from a run or twice in one, or values that are no
            probabilities.
    """
    path = Path(path)
    table = _table(path)
    if twice := sorted(set(table["case_id"][table.duplicated(["case_id", "run"])])):
        raise BaselineError(f"{path}: {listed(twice)} stand twice in one run; keep one row a case and run.")
    if table.empty:
        raise BaselineError(f"{path}: has no probability for any case; make it again from this dataset.")
    wide = table.pivot(index="run", columns="case_id", values="probability").reindex(columns=list(case_ids))
    for run, row in wide.iterrows():
        if missing := list(row.index[row.isna()]):
            raise BaselineError(
                f"{path}: run {run} has no probability for {len(missing)} of {len(case_ids)} cases: {listed(missing)}. "
                "Make the table again from this dataset, or evaluate a section that it holds."
            )
    return wide.to_numpy()


def _table(path: Path) -> pd.DataFrame:
    """A table as it stands in its file, its columns and values checked."""
    if not path.is_file():
        raise BaselineError(f"{path}: no such table; expected CSV with the columns {', '.join(COLUMNS)}.")
    try:
        table = pd.read_csv(path, dtype={"case_id": str, "run": int, "probability": float})
    except ValueError as error:  # of pandas' parser too
        raise BaselineError(f"{path}: cannot be read ({error}); expected CSV with {', '.join(COLUMNS)}.") from error
    if missing := [column for column in COLUMNS if column not in table]:
        raise BaselineError(f"{path}: no column {', '.join(missing)}; expected {', '.join(COLUMNS)}.")
    if odd := sorted(set(table["case_id"][~table["probability"].between(0, 1)])):
        raise BaselineError(f"{path}: expected probabilities in [0, 1]; those of {listed(odd)} are none.")
    return table
