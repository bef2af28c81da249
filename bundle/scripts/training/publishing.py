"""Writing the best epoch's weights of a finished training stage to models_dir, where the next stage reads them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from monai.data import DataLoader
from torch import nn

from scripts.conditioning.conditioner import ReportConditioner
from scripts.files import write_json
from scripts.fingerprint import digest_weights
from scripts.networks.texture import lost_power
from scripts.options import log_next
from scripts.training.batches import prepare_crop_batch
from scripts.training.cases import write_training_cases
from scripts.training.checkpointing import Checkpoint
from scripts.training.stage import write_published
from scripts.weights.checkpoints import save_network

logger = logging.getLogger(__name__)

Weights = Mapping[str, str | Path | None]
"""Files of weights by name; None: no such weights."""


def publish_autoencoder(
    checkpoint: Checkpoint,
    network: nn.Module,
    dataset: Any,
    path: str | Path,
    dataset_dir: str | Path | None = None,
    loss: nn.Module | None = None,
    built_on: Weights | None = None,
) -> None:
    """Writes the best autoencoder, with scale and texture measured over ``dataset``, the training crops unrotated.

    Args:
        dataset_dir: if given, digests of its training crops are kept beside the weights, see
            :mod:`scripts.training.cases`.
        loss: of the training; the name of its perceptual distance, if it has one, is stored with the weights, since
            settings alone do not tell LPIPS from what stood in for it.
        built_on: weights that the stage went on from, by their names in the record; what trained them is kept too.
    """
    best = checkpoint.load_best()
    if idist.get_rank() != 0:
        return
    autoencoder: Any = network.autoencoder.eval()  # type: ignore[operator, union-attr]
    device = autoencoder.latent_scale.device  # the training device: on a CPU the other ranks' barrier would time out
    with torch.no_grad():
        crops = [prepare_crop_batch(batch, device)[0] for batch in DataLoader(dataset, batch_size=64)]
        latents = [autoencoder.encode(batch)[0] for batch in crops]
        decoded = torch.cat([autoencoder.decode(batch).cpu() for batch in latents])
    autoencoder.latent_scale.fill_(1.0 / torch.cat([batch.cpu() for batch in latents]).std())
    autoencoder.config["texture"] = lost_power(torch.cat([batch.cpu() for batch in crops]), decoded)
    perceptual = getattr(loss, "perceptual", None)
    told = {} if perceptual is None else {"perceptual": perceptual.name}
    save_network(autoencoder, path, extra={**best, "record": checkpoint.record, **told})
    logger.info(f"Latent scale {float(autoencoder.latent_scale):.4f}")
    _finish(checkpoint, best, dataset_dir, built_on, path)


def publish(
    checkpoint: Checkpoint,
    network: nn.Module,
    path: str | Path,
    dtype: str = "float32",
    dataset_dir: str | Path | None = None,
    sampling: Mapping[str, Any] | None = None,
    built_on: Weights | None = None,
) -> None:
    """Writes the best weights of ``network`` to ``path``, stored as ``dtype``.

    Args:
        dataset_dir, built_on: as of :func:`publish_autoencoder`.
        sampling: what whoever applies the weights needs to know of the training; it is stored with them.
    """
    best = checkpoint.load_best()
    if idist.get_rank() == 0:
        extra = {**best, "record": checkpoint.record, **({"sampling": dict(sampling)} if sampling else {})}
        save_network(network, path, extra=extra, dtype=dtype)
        _finish(checkpoint, best, dataset_dir, built_on, path)


def publish_conditional(
    checkpoint: Checkpoint,
    unet: nn.Module,
    conditioner: ReportConditioner,
    models_dir: str | Path,
    dtype: str = "float32",
    sampling: Mapping[str, Any] | None = None,
    dataset_dir: str | Path | None = None,
    built_on: Weights | None = None,
) -> None:
    """Writes the best U-Net, and ``conditioner/``: prompts in peft's format, statistics of the context, settings.

    Args:
        sampling: what sampling needs to know of the training, see :func:`scripts.diffusion.sampling_settings`; it is
            stored with the U-Net.
        dataset_dir, built_on: as of :func:`publish_autoencoder`.
    """
    best = checkpoint.load_best()
    if idist.get_rank() == 0:
        path, folder = Path(models_dir) / "unet_conditional.safetensors", Path(models_dir) / "conditioner"
        conditioner.save_pretrained(folder)
        write_json(folder / "record.json", checkpoint.record)
        extra = {**best, "record": {**checkpoint.record, "conditioner": digest_weights(folder)}}
        extra |= {"sampling": dict(sampling)} if sampling else {}
        save_network(unet, path, extra=extra, dtype=dtype)
        _finish(checkpoint, best, dataset_dir, built_on, path, folder)


def _finish(
    checkpoint: Checkpoint,
    best: Mapping[str, Any],
    dataset_dir: str | Path | None,
    built_on: Weights | None,
    *paths: str | Path,
) -> None:
    """Notes what was published, of what it was trained on; logs the best epoch, the paths, and the next command."""
    if dataset_dir is not None:
        earlier = {
            name: (path, checkpoint.record["built_on"][name])
            for name, path in (built_on or {}).items()
            if path is not None and name != "autoencoder"  # which stays as it is, with a list of its own
        }
        write_training_cases(paths[0], dataset_dir, checkpoint.record["settings"]["image_size"], earlier)
    write_published(checkpoint.folder, checkpoint.record, best, paths)
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in best.items() if name != "epoch")
    epoch = f"Best epoch {best['epoch']} ({numbers})" if numbers else f"Epoch {best['epoch']}, by no validation"
    logger.info(f"{epoch}; wrote {' and '.join(map(str, paths))}")
    log_next()
