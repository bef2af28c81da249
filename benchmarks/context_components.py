"""From which components of the context can growth and outcome be predicted best in a small cohort?

Linear models predict the measured growth and the outcome from the whitened components, as the U-Net gets them, and from
the record itself. They are cross-validated by patient on the training section, which ``conditioner_arguments`` of
small.yaml were chosen on, and read on validation.

    python benchmarks/context_components.py DATASET MODELS
    python benchmarks/context_components.py DATASET --llm gemma-3-270m-q4_k_m.gguf

The second, without trained prompts, compares language models at the initial ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from growth_limit import nodules
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from torch.nn.functional import normalize

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.conditioning.conditioner import ReportConditioner
from scripts.conditioning.context import ContextNormaliser
from scripts.data.datalist import load_datalist, pairs
from scripts.ehr.encoding import record_encoder, record_numbers, records

COMPONENTS: dict[Literal["variance", "record"], tuple[int, ...]] = {
    "variance": (4, 8, 16, 32, 64, 128),
    "record": (8, 12, 16),
}


def coordinates(dataset: Path, llm: str, models: Path | None) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Name and whitened components (N, count), by section, of the contexts under trained or initial prompts."""
    conditioner = ReportConditioner(llm)
    if models is not None:
        conditioner.load_pretrained(models / "conditioner")
    shape = (conditioner.num_prompt_sets, conditioner.context_dim)
    reports = {section: [item["report"] for item in pairs(dataset, section)] for section in ("training", "validation")}
    numbers = record_numbers(load_datalist(dataset)["training"])
    for by, counts in COMPONENTS.items():
        for count in counts:
            conditioner.normaliser = ContextNormaliser(shape, count, by)
            conditioner.fit_statistics(reports["training"], numbers)
            axes = normalize(conditioner.normaliser.directions, dim=1)
            found = {section: conditioner.encode(each).flatten(1) @ axes.T for section, each in reports.items()}
            yield f"{count} by {by}", {section: each.numpy() for section, each in found.items()}


READ_OUTS: tuple[tuple[Any, dict[str, Any], str], ...] = (
    (Ridge(), {"alpha": np.logspace(-1, 6, 15)}, "r2"),
    (LogisticRegression(max_iter=3000), {"C": np.logspace(-6, 2, 9)}, "roc_auc"),
)
"""For growth and outcome: the model, candidates of its penalty, and the score of cross-validation that chooses."""


def main(dataset: Path, models: Annotated[Path | None, typer.Argument()] = None, llm: str = "embedded") -> None:
    """Prints the table."""
    entries = {name: load_datalist(dataset)[name] for name in ("training", "validation")}
    growth = {name: nodules(dataset, name) for name in entries}
    outcome = {name: np.array([case["malignant"] for case in each]) for name, each in entries.items()}
    patients = np.array([case["patient_id"] for case in entries["training"]])
    encoder = record_encoder().fit(records(entries["training"]))
    inputs = {"the record itself": {name: encoder.transform(records(each)) for name, each in entries.items()}}
    inputs |= dict(coordinates(dataset, llm, models))
    searches = [GridSearchCV(model, grid, cv=GroupKFold(5), scoring=score) for model, grid, score in READ_OUTS]
    table = Table("read from", "growth: R² (cv)", "r (validation)", "outcome: AUROC (cv)", "AUROC (validation)")
    for title, each in inputs.items():
        sized = {name: each[name][growth[name].fits] for name in entries}
        change, risk = searches
        change.fit(sized["training"], growth["training"].changes, groups=growth["training"].patients)
        risk.fit(each["training"], outcome["training"], groups=patients)
        correlation = np.corrcoef(change.predict(sized["validation"]), growth["validation"].changes)[0, 1]
        auroc = roc_auc_score(outcome["validation"], risk.predict_proba(each["validation"])[:, 1])
        table.add_row(
            title, f"{change.best_score_:.3f}", f"{correlation:.2f}", f"{risk.best_score_:.3f}", f"{auroc:.3f}"
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
