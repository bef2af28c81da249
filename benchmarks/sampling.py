"""How many network calls does sampling need? DDIM and DPM-Solver++ against the exact solution of the sampling ODE.

For each solver and number of calls: the root mean square distance of its latents to the exact solution from the same
noise (DPM-Solver++ with 100 calls), what the judge and the perceptual distance make of the images, the error of the
long diameter (median over runs, against the real follow-up, both measured), and the seconds for a case's runs.

    python benchmarks/sampling.py DATASET MODELS [--section validation] [--runs 4] [--guidance-scale 1 ..]
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from readers import crops, outcomes
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.data.datalist import pairs
from scripts.diffusion.sampler import ProgressionInferer, load_progression_model
from scripts.evaluation.nodules.growth import measure
from scripts.networks.perceptual import PerceptualDistance
from scripts.weights.checkpoints import load_network

EXACT = 100
CALLS = {"ddim": (10, 20, 50), "dpmpp": (6, 8, 10, 12, 16, 20, 25)}
PIXEL_MM = 0.5
"""Of LIDC-progression's crops."""


class Sampler:
    """Generates for the cases of a section, and keeps the latents that are decoded."""

    def __init__(self, models: Path, baseline: torch.Tensor, reports: list[str], runs: int) -> None:
        self.model, self.baseline, self.reports, self.runs = load_progression_model(models), baseline, reports, runs
        self.latents: list[torch.Tensor] = []
        decode: Any = self.model.autoencoder.decode_stage_2_outputs

        def keep(latents: torch.Tensor) -> torch.Tensor:
            self.latents.append(latents)
            return decode(latents)

        self.model.autoencoder.decode_stage_2_outputs = keep
        self.model.denoiser.conditioner.encode(reports)  # not in the seconds

    def __call__(self, solver: str, calls: int, guidance_scale: float) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Images (N, runs, H, W), latents, and seconds a case."""
        self.latents.clear()
        start = time.perf_counter()
        inferer = ProgressionInferer(calls, self.runs, guidance_scale=guidance_scale, solver=solver)
        images = inferer(self.baseline, self.model, self.reports)
        return images, torch.cat(self.latents), (time.perf_counter() - start) / len(images)


def main(
    dataset: Path,
    models: Path,
    section: Annotated[str, typer.Option(help="cases to read")] = "validation",
    runs: Annotated[int, typer.Option(min=1)] = 4,
    guidance_scale: Annotated[list[float] | None, typer.Option(help="1 is none")] = None,
) -> None:
    """Prints a table for each guidance."""
    real, truth = crops(dataset, section), outcomes(dataset, section)
    sampler = Sampler(models, real["baseline"], [item["report"] for item in pairs(dataset, section)], runs)
    judge, perceptual = load_network(models / "classifier.safetensors"), PerceptualDistance("alex")
    spacing = np.full((len(truth), 2), PIXEL_MM)
    follow_up = measure(real["follow_up"][None].numpy(), spacing).long[0]
    for scale in guidance_scale or (1.0, 6.0):
        exact = sampler("dpmpp", EXACT, scale)[1]
        title = f"guidance {scale:g}, {len(truth)} {section} cases, {runs} runs; latent sd {float(exact.std()):.2f}"
        table = Table("solver", "calls", "distance", "AUROC", "LPIPS", "diameter, mm", "s a case", title=title)
        for solver, counts in CALLS.items():
            for calls in counts:
                images, latents, seconds = sampler(solver, calls, scale)
                with torch.inference_mode():
                    flat = images.flatten(0, 1)[:, None]
                    scores = judge(flat).sigmoid().view(images.shape[:2]).mean(dim=1)
                    distance = perceptual(flat, real["follow_up"].repeat_interleave(runs, 0)).mean()
                sizes = np.median(measure(images.transpose(0, 1)[:, :, None].numpy(), spacing).long, axis=0)
                table.add_row(
                    *(solver, str(calls), f"{float((latents - exact).square().mean().sqrt()):.4f}"),
                    f"{roc_auc_score(truth, scores.numpy()):.3f}",
                    *(f"{float(distance):.3f}", f"{np.abs(sizes - follow_up).mean():.2f}", f"{seconds:.2f}"),
                )
        Console(width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
