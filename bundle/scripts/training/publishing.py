"""What a finished training stage leaves to the next: the best epoch's weights, with all that is needed to use them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from monai.data import DataLoader
from torch import nn

from scripts.conditioning.conditioner import ReportConditioner
from scripts.training.batches import prepare_crop_batch
from scripts.training.checkpointing import Checkpoint
from scripts.weights.checkpoints import save_network

logger = logging.getLogger(__name__)


def publish_autoencoder(checkpoint: Checkpoint, network: nn.Module, dataset: Any, path: str | Path) -> None:
    """The best autoencoder, with its latent scale measured over ``dataset``: the training crops, unturned."""
    best = checkpoint.load_best()
    if idist.get_rank() != 0:
        return
    autoencoder: Any = network.autoencoder.eval()  # type: ignore[operator, union-attr]
    device = autoencoder.latent_scale.device  # where it trained: on a CPU, the other ranks would lose patience
    with torch.no_grad():
        batches = DataLoader(dataset, batch_size=64)
        latents = torch.cat([autoencoder.encode(prepare_crop_batch(batch, device)[0])[0].cpu() for batch in batches])
    autoencoder.latent_scale.fill_(1.0 / latents.std())
    logger.info(f"Latent scale {float(autoencoder.latent_scale):.4f}; best epoch {best}; wrote {path}")
    save_network(autoencoder, path, extra=best)


def publish(checkpoint: Checkpoint, network: nn.Module, path: str | Path, dtype: str = "float32") -> None:
    """The best weights of ``network`` to ``path``."""
    best = checkpoint.load_best()
    if idist.get_rank() == 0:
        logger.info(f"Best epoch {best}; wrote {path}")
        save_network(network, path, extra=best, dtype=dtype)


def publish_conditional(
    checkpoint: Checkpoint,
    unet: nn.Module,
    conditioner: ReportConditioner,
    models_dir: str | Path,
    dtype: str = "float32",
) -> None:
    """The best epoch's U-Net, and its prompts in peft's format with the context's statistics."""
    publish(checkpoint, unet, Path(models_dir) / "unet_conditional.safetensors", dtype)
    if idist.get_rank() == 0:
        conditioner.save_pretrained(Path(models_dir) / "conditioner")
