"""Whether weights remember the follow-ups that they were trained on: an audit before weights are published.

Three tests, each of the training section's pairs against those of validation and test, of which no patient was in
training:

- *denoising loss*: a model that remembers denoises its training follow-ups better (Carlini et al. 2023). The loss of
  Eq. 10 is taken at the same timesteps and noise for every pair.
- *own follow-up*: it generates samples nearer to the real follow-up of a baseline that it was trained on.
- *nearest crop*: samples for unseen baselines lie nearer to training crops than to equally many held-out crops, in any
  of the rotations of training.

The first two are an AUROC of telling training pairs by the loss, or the distance; 0.5 is what a model has that
remembers nothing. The third is a share of samples, 0.5 as well.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from rich.progress import track
from torch import Tensor

from scripts.arrays import Array
from scripts.data.datalist import load_datalist, pairs
from scripts.data.transforms import HU_PER_UNIT, Rotationsd, preprocessing
from scripts.diffusion.denoiser import ConditionalDiffusionInferer
from scripts.diffusion.sampler import ProgressionInferer, ProgressionModel
from scripts.errors import UserError
from scripts.evaluation.statistics.metrics import auroc, estimate, patient_resamples, varied, weighted_mean
from scripts.files import write_json

logger = logging.getLogger(__name__)

TIMESTEPS = tuple(range(50, 1000, 100))
"""Steps of the noise schedule at which the denoising loss is taken."""

SUBSETS = 20
"""Draws of as many training crops as there are held-out ones."""


@torch.no_grad()
def audit_memorisation(
    *,
    dataset_dir: str | Path,
    network: ProgressionModel,
    inferer: ProgressionInferer,
    output_dir: str | Path,
    image_size: int = 64,
    rotations: Sequence[int] = (0, 45, 90, 135, 180),
    batch_size: int = 32,
    resamples: int = 2000,
    seed: int = 0,
    device: str | torch.device = "cpu",
    report_interval: bool = True,
    record: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Generates a follow-up for every pair of the dataset and writes ``memorisation.json``: sums, nothing of a patient.

    Args:
        network: the finished model, trained on the dataset's training section.
        inferer: its number of runs is that of samples for each pair.
        rotations: those of training, in which crops are compared.
        resamples, seed: of the bootstrap over patients.
        record: how weights and samples were made.

    Returns:
        The content of ``memorisation.json``, see the top of this module.

    Raises:
        UserError: there are fewer than two patients in training, or in validation and test together.
    """
    sections = {name: load_datalist(dataset_dir)[name] for name in ("training", "validation", "test")}
    patients = [str(case["patient_id"]) for cases in sections.values() for case in cases]
    member = np.repeat([1.0, 0.0], [len(sections["training"]), len(patients) - len(sections["training"])])
    weights = varied(patient_resamples(patients, member, resamples, seed), member)
    if weights is None or len(set(member)) < 2:
        raise UserError(
            f"{dataset_dir}: expected two patients or more in training, and in validation and test together."
        )
    items = [item for name in sections for item in pairs(dataset_dir, name, report_interval)]
    losses, generated, crops = _generated(items, network, inferer, image_size, rotations, batch_size, seed, device)
    own = np.sqrt(((generated - crops[:, :1]) ** 2).mean(axis=(2, 3))).mean(axis=1)
    result = {
        "n_training": int(member.sum()),
        "n_held_out": int((1 - member).sum()),
        "n_runs": inferer.num_runs,
        "membership_auroc": {
            "denoising_loss": telling_members(-losses, member, weights),
            "own_follow_up": telling_members(-own, member, weights),
        },
        "nearest_crop": nearest_crops(generated, crops, patients, member, weights, seed),
        "record": record,
    }
    write_json(Path(output_dir) / "memorisation.json", result, indent=2)
    logger.info(f"Written: {Path(output_dir) / 'memorisation.json'}. {headline(result)}")
    return result


def _generated(
    items: Sequence[dict[str, Any]],
    network: ProgressionModel,
    inferer: ProgressionInferer,
    image_size: int,
    rotations: Sequence[int],
    batch_size: int,
    seed: int,
    device: str | torch.device,
) -> tuple[Array, Array, Array]:
    """Of each pair the denoising loss (N,), samples (N, R, H, W) and the follow-up in its rotations (N, V, H, W)."""
    keys, turns = ["baseline", "follow_up"], [0, *(angle for angle in rotations if angle)]
    load = Compose([preprocessing(keys), Rotationsd(keys, turns, image_size)])
    losses, samples, views = [], [], []
    for start in track(range(0, len(items), batch_size), description="Auditing"):
        part = [load(item) for item in items[start : start + batch_size]]
        baseline, follow_up = (torch.stack([item[key][0].as_tensor() for item in part]).to(device) for key in keys)
        context = network.denoiser.context([item["report"] for item in part], len(part))
        losses.append(denoising_losses(network, baseline, follow_up, context, seed))
        samples.append(inferer(baseline, network, context).cpu().numpy())
        views += [np.concatenate([view.as_tensor() for view in item["follow_up"]]) for item in part]
    return np.concatenate(losses), np.concatenate(samples), np.stack(views)


def denoising_losses(
    network: ProgressionModel, baseline: Tensor, follow_up: Tensor, context: Tensor, seed: int
) -> Array:
    """The loss of Eq. 10 of each pair (N,), averaged over :data:`TIMESTEPS`, with the same noise for every pair.

    Args:
        baseline, follow_up: crops (N, 1, H, W) in [-1, 1].
        context: of their reports (N, M, D).
    """
    concat, latents = (network.autoencoder.encode_stage_2_inputs(crops) for crops in (baseline, follow_up))
    inferer = ConditionalDiffusionInferer(network.beta_schedule)
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(len(latents), dtype=torch.float64)
    for step in TIMESTEPS:
        noise = torch.randn(latents.shape[1:], generator=generator).to(latents).expand_as(latents)
        timesteps = torch.full((len(latents),), step, device=latents.device)
        predicted = inferer(latents, network.denoiser, noise, timesteps, context, concat)
        target = noise
        if network.prediction_type == "v_prediction":
            target = inferer.scheduler.get_velocity(latents, noise, timesteps)
        total += (predicted - target).square().flatten(1).mean(dim=1).double().cpu()
    return (total / len(TIMESTEPS)).numpy()


def telling_members(scores: Array, member: Array, weights: Array) -> dict[str, Any]:
    """The AUROC of scores (N,), higher for pairs of training, with weights (B, N) over patients; as ``estimate``."""
    return estimate(auroc(scores[None], member)[:, 0], auroc(scores[None], member, weights)[0])


def nearest_crops(
    samples: Array, crops: Array, patients: Sequence[str], member: Array, weights: Array, seed: int
) -> dict[str, Any]:
    """How often the crop nearest to a sample for an unseen baseline is one of training, and how near both kinds are.

    Each sample is compared with as many training as held-out crops, in :data:`SUBSETS` random draws; crops of its own
    patient are left out.

    Args:
        samples: (N, R, H, W) in [-1, 1].
        crops: the real follow-ups (N, V, H, W) in V rotations.
        patients: N.
        member: (N,), 1 in training, 0 held out.
        weights: (B, N) over patients.

    Returns:
        ``share`` of samples nearer to a training crop, 0.5 where nothing is remembered, as ``estimate`` gives it;
        ``training_hu`` and ``held_out_hu``, medians of the root mean square distance to the nearest.
    """
    held = member == 0
    distance = _distances(samples[held], crops)
    theirs, names = np.asarray(patients), np.asarray(patients)[held]
    distance = np.where((names[:, None] == theirs)[:, None], np.inf, distance)
    others = np.isfinite(distance[:, 0, held]).sum(axis=1)
    count = int(min(member.sum(), others.min()))
    random = np.random.default_rng(seed)
    nearer, ends = [], []
    for _ in range(SUBSETS):
        places = [random.permutation(np.flatnonzero(kind)) for kind in (~held, held)]
        seen, unseen = (_first_finite(distance[:, :, place], count).min(axis=2) for place in places)
        nearer.append((seen < unseen) + 0.5 * (seen == unseen))
        ends.append([np.median(seen), np.median(unseen)])
    share = np.mean(nearer, axis=0).mean(axis=1)[None]
    training_hu, held_out_hu = np.mean(ends, axis=0) * HU_PER_UNIT
    return {
        "share": estimate(share.mean(axis=1), weighted_mean(share, weights[:, held])[0]),
        "training_hu": float(training_hu),
        "held_out_hu": float(held_out_hu),
        "n_crops": count,
    }


def _distances(samples: Array, crops: Array) -> Array:
    """The root mean square distance (n, R, N) of samples (n, R, H, W) to the nearest view of crops (N, V, H, W)."""
    first = samples.reshape(-1, samples[0, 0].size).astype(np.float64)
    nearest = np.full((len(first), len(crops)), np.inf)
    for view in np.moveaxis(crops, 1, 0):
        second = view.reshape(len(crops), -1).astype(np.float64)
        squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
        nearest = np.minimum(nearest, np.sqrt(squares.clip(0) / first.shape[1]))
    return nearest.reshape(*samples.shape[:2], len(crops))


def _first_finite(distance: Array, count: int) -> Array:
    """The first ``count`` finite entries along the last axis of distances (n, R, M)."""
    order = np.argsort(np.isinf(distance), axis=2, kind="stable")[:, :, :count]
    return np.take_along_axis(distance, order, axis=2)


def headline(result: Mapping[str, Any]) -> str:
    """One line: both AUROCs and the share, with their intervals; 0.5 means that nothing is remembered."""
    values = {
        "AUROC of telling training pairs by the denoising loss": result["membership_auroc"]["denoising_loss"],
        "by the distance to the own follow-up": result["membership_auroc"]["own_follow_up"],
        "nearest crop is one of training": result["nearest_crop"]["share"],
    }
    parts = [
        f"{name} {each['mean']:.3f} [{each['ci95'][0]:.3f}, {each['ci95'][1]:.3f}]" for name, each in values.items()
    ]
    return "; ".join(parts) + " (0.5: nothing is remembered)"
