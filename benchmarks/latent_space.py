"""What can be predicted of nodules from a latent space? Compares autoencoders, such as two alignment metrics.

For each file, on the validation section: the error of the reconstruction, how well ridge and logistic regression fitted
on the training latents predict diameter and outcome, and Spearman's correlation of the distances between averaged
latents (Eq. 2) with those between attributes, as in evaluate.yaml (bundle/scripts/evaluation/nodules/latents.py).

    python benchmarks/latent_space.py DATASET A.safetensors B.safetensors ...
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.data.datalist import load_datalist
from scripts.data.transforms import baseline_crops, to_hu
from scripts.evaluation.nodules.latents import Nodules, latent_scores
from scripts.evaluation.study import Cases
from scripts.weights.checkpoints import load_network


@torch.no_grad()
def measure(weights: Path, dataset: Path, image_size: int) -> list[str]:
    """One row of the table."""
    autoencoder: Any = load_network(weights, "LatentAutoencoder")
    sections = ("training", "validation")
    cases = [load_datalist(dataset)[section] for section in sections]
    crops = [torch.from_numpy(baseline_crops(dataset, section, image_size)) for section in sections]
    latents = [autoencoder.encode_stage_2_inputs(each) for each in crops]
    error = (to_hu(autoencoder.decode_stage_2_outputs(latents[1])) - to_hu(crops[1])).abs().mean()
    outcomes = [np.array([case["malignant"] for case in each]) for each in cases]
    flat = [latent.flatten(1).numpy() for latent in latents]
    outcome = LogisticRegression(C=0.001, max_iter=1000).fit(flat[0], outcomes[0]).predict_proba(flat[1])[:, 1]
    training, unseen = (Nodules(latent.numpy(), Cases.of(each)) for latent, each in zip(latents, cases, strict=True))
    scores = latent_scores(unseen, training, None)
    values = (
        scores["diameter_r2"]["mean"],
        roc_auc_score(outcomes[1], outcome),
        scores["distance_correlation"]["mean"],
    )
    return [str(weights), f"{error:.1f}", *(f"{value:.3f}" for value in values)]


def main(dataset: Path, weights: list[Path], image_size: Annotated[int, typer.Option()] = 64) -> None:
    """Prints the table."""
    table = Table("weights", "error, HU", "R² of log diameter", "AUROC of outcome", "distances' correlation")
    for path in weights:
        table.add_row(*measure(path, dataset, image_size))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
