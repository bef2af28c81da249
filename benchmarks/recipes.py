"""Which conditional stage tells patients apart best? Cross-validates its recipes, with several trainings of each.

Eighty validation cases do not tell recipes apart, nor does one training of each. So the stage is trained as small.yaml
trains it (frozen prompts, cached latents, the best epoch by validation loss) on the split as it is and once a fold of
the patients of training and validation together. Cases left out are sampled under several guidances and read by two
readers: the judge, and logistic regression on the latents of the training cases' real crops. Autoencoder and judge saw
the training split, so the folds compare recipes and say nothing about how good they are.

On a GPU a step is one CUDA graph, which is what makes fifty trainings a matter of minutes; several processes share the
card best (NVIDIA's MPS), each with its --part.

    python benchmarks/recipes.py run DATASET MODELS OUT --unet UNCONDITIONAL.safetensors --part 0 --parts 12
    python benchmarks/recipes.py table OUT
"""

from __future__ import annotations

import copy
import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from scripts.checkpoints import load_network
from scripts.conditioning import ReportConditioner
from scripts.data import ROTATIONS, LatentDataset, load_datalist, pairs
from scripts.diffusion import sampling_scheduler, training_scheduler
from scripts.pretrained import conditional_unet

OUTCOME: dict[str, Any] = {"components_by": "outcome"}
PLAIN: dict[str, Any] = {"num_prompt_sets": 1, "prompt_length": 0}
RECIPES: dict[str, tuple[dict[str, Any], float]] = {
    "16 by variance": ({"components": 16}, 0.0),
    "16 by variance, 15 % left out": ({"components": 16}, 0.15),
    "16 by variance, no prompts": ({"components": 16, **PLAIN}, 0.0),
    "1 by outcome": ({"components": 1, **OUTCOME}, 0.0),
    "2 by outcome": ({"components": 2, **OUTCOME}, 0.0),
    "2 by outcome, 15 % left out": ({"components": 2, **OUTCOME}, 0.15),
    "4 by outcome": ({"components": 4, **OUTCOME}, 0.0),
    "4 by outcome, 15 % left out": ({"components": 4, **OUTCOME}, 0.15),
    "4 by outcome, no prompts": ({"components": 4, **OUTCOME, **PLAIN}, 0.0),
    "8 by outcome": ({"components": 8, **OUTCOME}, 0.0),
}
"""Arguments of the conditioner, and the share of reports that are left out in training."""

GUIDANCES = (1, 2, 3, 4, 6, 9)
BATCH, EPOCHS, PATIENCE, INTERVAL, PEAK, WARMUP, DECAY, AVERAGE = 32, 120, 40, 4, 5e-4, 50, 1560, 0.995
RUNS, STEPS = 10, 25
SECTIONS = ("training", "validation")
app = typer.Typer()


class Cases:
    """Latents in every rotation, reports, outcomes and patients of training and validation together."""

    def __init__(self, dataset: Path, autoencoder: Any, device: str) -> None:
        items = {section: pairs(dataset, section) for section in SECTIONS}
        latents = []
        for section in SECTIONS:
            crops = LatentDataset(items[section], ["baseline", "follow_up"], autoencoder, 64, ROTATIONS)
            latents.append(torch.stack([crops._encode(key) for key in crops.keys]))
        self.baseline, self.follow_up = torch.cat(latents, dim=1).to(device)
        both = [item for section in SECTIONS for item in items[section]]
        self.reports = [item["report"] for item in both]
        self.outcomes = np.array([item["malignant"] for item in both])
        self.patients = [case["patient_id"] for section in SECTIONS for case in load_datalist(dataset)[section]]
        self.first_validation = len(items["training"])

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cases to train on, to choose the epoch by, and left out; ``name`` is ``validation`` or a fold's number."""
        everyone = np.arange(len(self.outcomes))
        if name == "validation":
            train, left_out = np.split(everyone, [self.first_validation])
            return train, left_out, left_out
        groups = np.array(self.patients)
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=1).split(everyone, self.outcomes, groups)
        rest, left_out = next(itertools.islice(folds, int(name), None))
        within = StratifiedGroupKFold(8, shuffle=True, random_state=2)
        train, validate = next(within.split(rest, self.outcomes[rest], groups[rest]))
        return rest[train], rest[validate], left_out


def replayed(step: Callable[[], Any]) -> Callable[[], Any]:
    """``step`` as a CUDA graph where there is a GPU; its inputs and outputs stay where they are."""
    if not torch.cuda.is_available():
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def noised(latents: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """The noisy latents and what a network that predicts v is to say."""
    forward = training_scheduler()
    return forward.add_noise(latents, noise, timesteps), forward.get_velocity(latents, noise, timesteps)


def learning_rate(step: int) -> float:
    """Of small.yaml's conditional stage."""
    if step < WARMUP:
        return PEAK * (0.01 + 0.99 * step / WARMUP)
    done = min(1.0, (step - WARMUP) / (DECAY - WARMUP))
    return PEAK * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def train(
    cases: Cases, unet: Any, context: Tensor, rows: np.ndarray, chosen_by: np.ndarray, null_share: float, seed: int
) -> tuple[Any, float]:
    """The averaged U-Net of the best epoch, and its validation loss."""
    device = context.device
    averaged = copy.deepcopy(unet).eval().requires_grad_(False)
    weights, means = list(unet.train().parameters()), list(averaged.parameters())
    share = torch.zeros((), device=device)
    # a tensor is what a graph reads anew each time
    rate: Any = torch.tensor(PEAK, device=device) if device.type == "cuda" else PEAK
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.01, capturable=device.type == "cuda", foreach=True)
    noisy, target = torch.zeros(BATCH, 8, 8, 8, device=device), torch.zeros(BATCH, 4, 8, 8, device=device)
    timesteps, told = torch.zeros(BATCH, dtype=torch.long, device=device), torch.zeros_like(context[:BATCH])

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        torch.nn.functional.mse_loss(unet(noisy, timesteps, told), target).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0, foreach=True)
        optimizer.step()
        for mean, weight in zip(means, weights, strict=True):
            mean.lerp_(weight.detach(), share)

    before = [weight.detach().clone() for weight in weights]
    run_step = replayed(step)
    with torch.no_grad():  # the rehearsal of the graph leaves nothing behind
        for weight, value in zip([*weights, *means], before * 2, strict=True):
            weight.copy_(value)
        for state in optimizer.state.values():
            for value in state.values():
                value.zero_()

    generator = torch.Generator().manual_seed(seed)
    held = torch.from_numpy(chosen_by).to(device)
    fixed_noise = torch.randn(len(held), 4, 8, 8, generator=torch.Generator().manual_seed(len(held))).to(device)
    fixed_steps = ((torch.arange(len(held)) * 7 % len(held) + 0.5) * 1000 / len(held)).long().to(device)

    @torch.no_grad()
    def validation_loss() -> float:
        given, wanted = noised(cases.follow_up[held, 0], fixed_noise, fixed_steps)
        output = averaged(torch.cat([given, cases.baseline[held, 0]], dim=1), fixed_steps, context[held])
        return float(torch.nn.functional.mse_loss(output, wanted))

    best, best_epoch, best_means, done = math.inf, 0, means, 0
    for epoch in range(1, EPOCHS + 1):
        order = torch.from_numpy(rows)[torch.randperm(len(rows), generator=generator)]
        for batch in order.split(BATCH)[: len(rows) // BATCH]:
            turn, picked = torch.randint(len(ROTATIONS), (BATCH,), generator=generator).to(device), batch.to(device)
            noise = torch.randn(BATCH, 4, 8, 8, generator=generator).to(device)
            timesteps.copy_(torch.randint(1000, (BATCH,), generator=generator))
            given, wanted = noised(cases.follow_up[picked, turn], noise, timesteps)
            left_out = torch.rand(BATCH, 1, 1, generator=generator).to(device) < null_share if null_share else None
            told.copy_(context[picked] if left_out is None else context[picked].masked_fill(left_out, 0.0))
            noisy.copy_(torch.cat([given, cases.baseline[picked, turn]], dim=1))
            target.copy_(wanted)
            if device.type == "cuda":
                rate.fill_(learning_rate(done))
            else:
                optimizer.param_groups[0]["lr"] = learning_rate(done)
            share.fill_(1 - min(AVERAGE, (1 + done) / (10 + done)))
            run_step()
            done += 1
        if epoch % INTERVAL == 0:
            loss = validation_loss()
            if loss < best:
                best, best_epoch, best_means = loss, epoch, [mean.clone() for mean in means]
            elif epoch - best_epoch >= PATIENCE:
                break
    with torch.no_grad():
        for mean, value in zip(means, best_means, strict=True):
            mean.copy_(value)
    return averaged, best


@torch.no_grad()
def sample(unet: Any, baseline: Tensor, context: Tensor, guidances: tuple[int, ...]) -> dict[int, Tensor]:
    """Follow-ups' latents (cases x RUNS, 4, 8, 8) by DDIM, a guidance at a time, from the same noise."""
    baseline, context = (each.repeat_interleave(RUNS, dim=0) for each in (baseline, context))
    start = torch.randn(baseline.shape, generator=torch.Generator().manual_seed(5)).to(baseline)
    latents, timesteps = start.clone(), torch.zeros(2 * len(start), dtype=torch.long, device=start.device)
    now, then, guidance = (torch.ones((), device=start.device) for _ in range(3))
    contexts = torch.cat([context, torch.zeros_like(context)])

    def step() -> None:
        output, free = unet(torch.cat([torch.cat([latents, baseline], dim=1)] * 2), timesteps, contexts).chunk(2)
        velocity = free + guidance * (output - free)
        clean = now.sqrt() * latents - (1 - now).sqrt() * velocity
        noise = now.sqrt() * velocity + (1 - now).sqrt() * latents
        latents.copy_(then.sqrt() * clean + (1 - then).sqrt() * noise)

    run_step, scheduler, found = replayed(step), sampling_scheduler(STEPS, "v_prediction"), {}
    for value in guidances:
        latents.copy_(start)
        guidance.fill_(value)
        for timestep in scheduler.timesteps.tolist():
            timesteps.fill_(timestep)
            now.copy_(scheduler.alphas_cumprod[timestep])
            then.copy_(scheduler.alphas_cumprod[max(timestep - 1000 // STEPS, 0)])
            run_step()
        found[value] = latents.clone()
    return found


@app.command()
def run(
    dataset: Path,
    models: Path,
    out: Path,
    unet: Annotated[list[Path], typer.Option()],
    part: Annotated[int, typer.Option()] = 0,
    parts: Annotated[int, typer.Option()] = 1,
    only: Annotated[str, typer.Option(help="one job, such as '4 by outcome/validation/23'")] = "",
) -> None:
    """Trains, samples and reads; a file a training in OUT, which is not made twice."""
    torch.set_float32_matmul_precision("high")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    autoencoder: Any = load_network(models / "autoencoder.safetensors", "LatentAutoencoder").to(device)
    judge: Any = load_network(models / "classifier.safetensors", "NoduleClassifier").to(device)
    cases = Cases(dataset, autoencoder, device)
    out.mkdir(parents=True, exist_ok=True)

    @torch.no_grad()
    def judged(latents: Tensor) -> np.ndarray:
        images = (autoencoder.decode_stage_2_outputs(each).clamp(-1, 1) for each in latents.split(1024))
        return torch.cat([torch.sigmoid(judge(each)).flatten() for each in images]).cpu().numpy()

    splits = [("validation", 23), ("0", 23), ("1", 24), ("2", 23)]
    jobs = [(name, split, seed) for split, seed in splits for name in RECIPES]
    for name, split, seed in jobs[part::parts] if not only else [(*only.split("/")[:2], int(only.split("/")[2]))]:
        path = out / f"{name}_{split}_{seed}.npz"
        if path.exists():
            continue
        arguments, null_share = RECIPES[name]
        rows, chosen_by, left_out = cases.split(split)
        torch.manual_seed(seed)
        conditioner = ReportConditioner(**arguments).requires_grad_(False)
        if conditioner.prompt_length:
            learned = ReportConditioner()
            learned.load_pretrained(models / "conditioner")
            conditioner.prompts.copy_(learned.prompts)
        conditioner.fit_statistics([cases.reports[row] for row in rows], cases.outcomes[rows])
        context = conditioner.encode(cases.reports).to(device)
        network = conditional_unet(unet[seed % len(unet)], conditioner.context_dim).to(device)
        averaged, loss = train(cases, network, context, rows, chosen_by, null_share, seed)
        real = torch.cat([cases.follow_up[rows, 0], cases.baseline[rows, 0]]).flatten(1).cpu().numpy()
        probe = LogisticRegression(C=0.01, max_iter=3000).fit(real, np.tile(cases.outcomes[rows], 2))
        sampled = sample(averaged, cases.baseline[left_out, 0], context[left_out], GUIDANCES)
        images = {"baseline": cases.baseline[left_out, 0], "follow-up": cases.follow_up[left_out, 0], **sampled}
        scores = {
            f"{title}/{reader}": read(latents).reshape(len(left_out), -1).mean(axis=1)
            for title, latents in images.items()
            for reader, read in (
                ("judge", judged),
                ("probe", lambda latents, probe=probe: probe.decision_function(latents.flatten(1).cpu().numpy())),
            )
        }
        np.savez(path.with_suffix(".partial.npz"), loss=loss, outcomes=cases.outcomes[left_out], **scores)
        path.with_suffix(".partial.npz").rename(path)


@app.command()
def table(out: Path) -> None:
    """AUROC of the scores averaged over runs, averaged over folds or seeds."""
    found: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for path in sorted(out.glob("*_*_*.npz")):
        name, split, _ = path.stem.split("_")
        found["validation" if split == "validation" else "folds", name].append(np.load(path))
    titles = ["baseline", *map(str, GUIDANCES), "follow-up"]
    shown = Table("cases", "context", "trainings", "loss", *titles, title="AUROC: judge / probe")
    for (kind, name), each in sorted(found.items()):
        cells = []
        for title in titles:
            read = [
                np.mean([roc_auc_score(one["outcomes"], one[f"{title}/{reader}"]) for one in each])
                for reader in ("judge", "probe")
            ]
            cells.append(" / ".join(f"{value:.3f}" for value in read))
        shown.add_row(kind, name, str(len(each)), f"{np.mean([one['loss'] for one in each]):.3f}", *cells)
    Console(width=200).print(shown)


if __name__ == "__main__":
    app()
