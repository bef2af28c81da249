"""What keeps generated follow-ups from telling patients apart as real ones do: autoencoder, diffusion, record or judge?

The conditional stage is trained once more, as small.yaml trains it, with reports that say *the outcome itself*, which
no real user has. Told the truth, it shows what autoencoder and diffusion can do. Told "malignant" and then "benign" of
the same baseline, with the two readings weighed by the probability that logistic regression reads from the record, it
shows what a perfect generator could make of the record: the mean over its runs would be that mixture, whatever the
network. The mixture with the probability times 2 and 4 shows what exaggeration, which is what guidance does, can add.

    python benchmarks/limits.py DATASET MODELS OUT      (MODELS with unet_unconditional.safetensors)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import typer
from monai.bundle import run
from readers import Readers, crops, outcomes
from recipes import CONFIGS, RUNS, STEPS, start_from
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from scripts.baselines import attribute_regression, records
from scripts.data import load_datalist, pairs
from scripts.diffusion import ProgressionInferer, load_progression_model

WORDS = {0.0: "Benign.", 1.0: "Malignant."}
ARGUMENTS: dict[str, Any] = {"llm": "embedded", "num_prompt_sets": 1, "prompt_length": 0, "components": 1}
EXAGGERATIONS = (1, 2, 4)


def told(dataset: Path, section: str) -> list[dict[str, Any]]:
    """The cases of a section with their outcome for a report."""
    return [item | {"report": WORDS[item["malignant"]]} for item in pairs(dataset, section)]


def main(dataset: Path, models: Path, out: Path) -> None:
    """Prints the table, on the validation split."""
    start_from(models, out)
    sections = {"train": "training", "validate": "validation"}
    data = {f"{stage}::dataset::data": told(dataset, section) for stage, section in sections.items()}
    settings: dict[str, Any] = {"dataset_dir": str(dataset), "output_dir": str(out), "conditioner_arguments": ARGUMENTS}
    run("training", config_file=CONFIGS, **settings, **data)
    model = load_progression_model(out / "models", **ARGUMENTS)
    readers, real, truth = Readers(dataset, models), crops(dataset, "validation"), outcomes(dataset, "validation")
    inferer = ProgressionInferer(STEPS, RUNS)
    benign, malignant = (
        readers.read(inferer(real["baseline"], model, [words] * len(truth))) for words in WORDS.values()
    )
    risk = attribute_regression(dataset).predict_proba(records(load_datalist(dataset)["validation"]))[:, 1]
    found = {
        "real baseline": readers.read(real["baseline"]),
        "real follow-up": readers.read(real["follow_up"]),
        "told the outcome": np.where(truth, malignant, benign),
        **{
            f"told the record's risk, x {times}": benign + times * risk * (malignant - benign)
            for times in EXAGGERATIONS
        },
    }
    table = Table(f"{len(truth)} validation cases, {RUNS} runs", "AUROC: judge", "probe")
    for title, each in found.items():
        table.add_row(title, *(f"{roc_auc_score(truth, score):.3f}" for score in each))
    table.add_row("no image: the record's risk", f"{roc_auc_score(truth, risk):.3f}", "")
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
