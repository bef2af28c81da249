"""What does a latent space tell about nodules? Compares autoencoders, such as two metrics of the alignment loss.

For each file, on the validation split: the error of the reconstruction, how well ridge and logistic regression on the
training latents read diameter and outcome, and Spearman's correlation of the distances between averaged latents (what
Eq. 2 compares) with the differences of log diameter.

    python benchmarks/latent_space.py DATASET A.safetensors B.safetensors ...
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from monai.data import DataLoader, Dataset
from rich.console import Console
from rich.table import Table
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import r2_score, roc_auc_score

from scripts.checkpoints import load_network
from scripts.data import load_datalist, pairs, preprocessing, to_hu


def read_split(dataset: Path, section: str, image_size: int) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Baseline crops (N, 1, H, W), log diameters in mm (N,) and outcomes (N,) of a split."""
    items = Dataset(pairs(dataset, section), preprocessing(["baseline"], image_size))
    crops = torch.cat([batch["baseline"].as_tensor() for batch in DataLoader(items, batch_size=64)])
    cases = load_datalist(dataset)[section]
    diameters = np.log([case["ehr"]["sct_long_dia"] for case in cases])
    return crops, diameters, np.array([case["malignant"] for case in cases])


@torch.no_grad()
def measure(weights: Path, dataset: Path, image_size: int) -> list[str]:
    """One row of the table."""
    autoencoder: Any = load_network(weights, "LatentAutoencoder")
    training, validation = (read_split(dataset, section, image_size) for section in ("training", "validation"))
    latents = [autoencoder.encode_stage_2_inputs(crops) for crops, _, _ in (training, validation)]
    flat = [latent.flatten(1).numpy() for latent in latents]
    error = (to_hu(autoencoder.decode_stage_2_outputs(latents[1])) - to_hu(validation[0])).abs().mean()
    diameter = RidgeCV(np.logspace(0, 4, 9)).fit(flat[0], training[1]).predict(flat[1])
    outcome = LogisticRegression(C=0.001, max_iter=1000).fit(flat[0], training[2]).predict_proba(flat[1])[:, 1]
    averaged = latents[1].mean(dim=(2, 3)).numpy()
    alignment = spearmanr(pdist(averaged), pdist(validation[1][:, None])).statistic
    scores = (r2_score(validation[1], diameter), roc_auc_score(validation[2], outcome), alignment)
    return [str(weights), f"{error:.1f}", *(f"{score:.3f}" for score in scores)]


def main(dataset: Path, weights: list[Path], image_size: Annotated[int, typer.Option()] = 64) -> None:
    """Prints the table."""
    table = Table("weights", "error, HU", "R² of log diameter", "AUROC of outcome", "distances' correlation")
    for path in weights:
        table.add_row(*measure(path, dataset, image_size))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
