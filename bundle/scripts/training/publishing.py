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
from scripts.options import log_next
from scripts.training.batches import prepare_crop_batch
from scripts.training.checkpointing import Checkpoint
from scripts.weights.checkpoints import save_network

logger = logging.getLogger(__name__)


def publish_autoencoder(checkpoint: Checkpoint, network: nn.Module, dataset: Any, path: str | Path) -> None:
    """Writes the best autoencoder, with its latent scale measured over ``dataset``, the training crops unrotated."""
    best = checkpoint.load_best()
    if idist.get_rank() != 0:
        return
    autoencoder: Any = network.autoencoder.eval()  # type: ignore[operator, union-attr]
    device = autoencoder.latent_scale.device  # the training device: on a CPU the other ranks' barrier would time out
    with torch.no_grad():
        batches = DataLoader(dataset, batch_size=64)
        latents = torch.cat([autoencoder.encode(prepare_crop_batch(batch, device)[0])[0].cpu() for batch in batches])
    autoencoder.latent_scale.fill_(1.0 / latents.std())
    save_network(autoencoder, path, extra=best)
    logger.info(f"Latent scale {float(autoencoder.latent_scale):.4f}")
    _log(best, path)


def publish(checkpoint: Checkpoint, network: nn.Module, path: str | Path, dtype: str = "float32") -> None:
    """Writes the best weights of ``network`` to ``path``, stored as ``dtype``."""
    best = checkpoint.load_best()
    if idist.get_rank() == 0:
        save_network(network, path, extra=best, dtype=dtype)
        _log(best, path)


def publish_conditional(
    checkpoint: Checkpoint,
    unet: nn.Module,
    conditioner: ReportConditioner,
    models_dir: str | Path,
    dtype: str = "float32",
) -> None:
    """Writes the best U-Net, and ``conditioner/``: its prompts in peft's format and the context's statistics."""
    best = checkpoint.load_best()
    if idist.get_rank() == 0:
        path = Path(models_dir) / "unet_conditional.safetensors"
        save_network(unet, path, extra=best, dtype=dtype)
        conditioner.save_pretrained(Path(models_dir) / "conditioner")
        _log(best, f"{path} and {Path(models_dir) / 'conditioner'}")


def _log(best: Mapping[str, Any], path: str | Path) -> None:
    """Logs the best epoch, the path, and the next command."""
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in best.items() if name != "epoch")
    logger.info(f"Best epoch {best['epoch']} ({numbers}); wrote {path}")
    log_next()
