"""What keeps generated follow-ups from telling patients apart as real ones do: autoencoder, diffusion, record or judge?

The conditional stage is trained once more with the *outcome itself* in the record's place, which no real user has. Told
the truth, it shows what autoencoder and diffusion can do. Told "malignant" and then "benign" of the same baseline, with
the two readings weighed by the probability that logistic regression reads from the record, it shows what a perfect
generator could make of the record: the mean over its runs would be that mixture, whatever the network. The mixture with
the probability times 2 and 4 shows what exaggeration, which is what guidance does, can add.

Two readers: the judge, and logistic regression on the latents of the training split's real crops (both times).

    python benchmarks/limits.py DATASET MODELS --unet UNCONDITIONAL.safetensors [--predictions PREDICTIONS]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from recipes import RUNS, Cases, sample, train
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from scripts.baselines import attribute_regression, records
from scripts.checkpoints import load_network
from scripts.data import load_datalist
from scripts.predictions import read_predictions
from scripts.pretrained import conditional_unet

EXAGGERATIONS = (1, 2, 4)
AXIS_LENGTH = 10.0


def told(outcomes: np.ndarray, rows: np.ndarray, width: int, device: str) -> Tensor:
    """Outcomes as a context (N, 2, width): one direction, of zero mean and unit variance over ``rows``."""
    axis = torch.randn(2, width, generator=torch.Generator().manual_seed(0))
    scaled = (outcomes - outcomes[rows].mean()) / outcomes[rows].std()
    return torch.from_numpy(scaled).float()[:, None, None].to(device) * (AXIS_LENGTH * axis / axis.norm()).to(device)


def main(
    dataset: Path,
    models: Path,
    unet: Annotated[Path, typer.Option()],
    predictions: Annotated[Path | None, typer.Option()] = None,
    seed: Annotated[int, typer.Option()] = 23,
) -> None:
    """Prints the table, on the validation split."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    autoencoder: Any = load_network(models / "autoencoder.safetensors", "LatentAutoencoder").to(device)
    judge: Any = load_network(models / "classifier.safetensors", "NoduleClassifier").to(device)
    cases = Cases(dataset, autoencoder, device)
    rows, unseen, _ = cases.split("validation")
    outcomes, entries = cases.outcomes[unseen], load_datalist(dataset)["validation"]
    seen = torch.cat([cases.follow_up[rows, 0], cases.baseline[rows, 0]]).flatten(1).cpu()
    probe = LogisticRegression(C=0.01, max_iter=3000).fit(seen, np.tile(cases.outcomes[rows], 2))

    @torch.no_grad()
    def read(latents: Tensor) -> np.ndarray:
        """Probabilities (2, cases) by judge and probe, averaged over a case's runs."""
        images = (autoencoder.decode_stage_2_outputs(part).clamp(-1, 1) for part in latents.split(1024))
        judged = torch.cat([torch.sigmoid(judge(each)).flatten() for each in images]).cpu().numpy()
        probed = probe.predict_proba(latents.flatten(1).cpu())[:, 1]
        return np.stack([judged, probed]).reshape(2, len(unseen), -1).mean(axis=2)

    torch.manual_seed(seed)
    network = conditional_unet(unet, 576).to(device)
    context = told(cases.outcomes, rows, 576, device)
    averaged, loss = train(cases, network, context, rows, unseen, 0.0, seed)

    def generated(outcome: np.ndarray) -> np.ndarray:
        context = told(np.concatenate([cases.outcomes[rows], outcome]), np.arange(len(rows)), 576, device)[len(rows) :]
        return read(sample(averaged, cases.baseline[unseen, 0], context, (1,))[1])

    benign, malignant = generated(np.zeros(len(unseen))), generated(np.ones(len(unseen)))
    risk = attribute_regression(dataset).predict_proba(records(entries))[:, 1]
    found = {
        "real baseline, through the autoencoder": read(cases.baseline[unseen, 0]),
        "real follow-up, through the autoencoder": read(cases.follow_up[unseen, 0]),
        "told the outcome": generated(outcomes),
        **{
            f"told the record's risk, x {times}": benign + times * risk * (malignant - benign)
            for times in EXAGGERATIONS
        },
    }
    if predictions is not None:
        runs = torch.from_numpy(read_predictions(predictions, [entry["case_id"] for entry in entries]))
        encode = autoencoder.encode_stage_2_inputs
        with torch.no_grad():
            found["NAMD"] = read(torch.cat([encode(case.to(device)) for case in runs.transpose(0, 1)]))
    table = Table(f"{len(unseen)} validation cases, loss {loss:.3f}, {RUNS} runs", "AUROC: judge", "probe")
    for title, (judged, probed) in found.items():
        table.add_row(title, f"{roc_auc_score(outcomes, judged):.3f}", f"{roc_auc_score(outcomes, probed):.3f}")
    table.add_row("no image: the record's risk", f"{roc_auc_score(outcomes, risk):.3f}", "")
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
